"""Lines that ``tegrastats`` printed on boards, from public places, and what each must be read as.

Format: NVIDIA Jetson Linux Developer Guide, appendix "tegrastats Utility".
Orin AGX, JetPack 5: a public setup log of an AGX Orin 64 GB (L4T 35), 24 April 2023.
Orin AGX, JetPack 6: L4T 36.4.4, kernel 5.15.148, from a public parser's test cases, 9 May 2026.
Orin NX/Nano: github.com/henrygd/beszel, agent tests, 15 November 2024.
TX2 before JetPack 5: github.com/henrygd/beszel, pull request 1631.
Xavier AGX: public parser tests, with and without the unit (L4T 32 and 35).
Thor, JetPack 7 (L4T 38): a public bandwidth study's excerpt, 14 May 2026, RAM to VIN.
Thor, L4T 39: a public telemetry parser's tests, 8 August 2026: now/average/peak.
"""

from __future__ import annotations

from typing import Any

ORIN_AGX_JP5 = (
    "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) "
    "CPU [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C CPU@42.593C "
    "Tboard@32C SOC2@39.343C Tdiode@33.25C SOC0@39.375C CV1@-256C GPU@-256C tj@42.593C "
    "SOC1@40.468C CV2@-256C VDD_GPU_SOC 2399mW/2399mW VDD_CPU_CV 400mW/400mW "
    "VIN_SYS_5V0 4032mW/4032mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
ORIN_AGX_JP6 = (
    "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) "
    "CPU [14%@2188,5%@2112,8%@2035,14%@2201,46%@1267,47%@1267,2%@1267,10%@1267,4%@1036,5%@1036,"
    "6%@1036,10%@1036] EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVENC 79%@166 NVDEC off NVJPG off "
    "NVJPG1 off VIC 36%@115 OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.562C "
    "soc2@48.437C soc0@49.093C tj@52.562C soc1@49.656C VDD_GPU_SOC 2412mW/2412mW "
    "VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW"
)
ORIN_NANO = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) "
    "CPU [15%@729,11%@729,14%@729,13%@729,11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] "
    "NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@53.968C soc2@52.437C soc0@50.75C "
    "gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW VDD_CPU_GPU_CV 4667mW/4667mW "
    "VDD_SOC 2817mW/2817mW"
)
TX2 = (
    "RAM 3276/7859MB (lfb 5x4MB) SWAP 1626/12122MB (cached 181MB) "
    "CPU [44%@1421,49%@2031,67%@2034,17%@1420,25%@1419,8%@1420] EMC_FREQ 1%@1866 GR3D_FREQ 0%@114 "
    "APE 150 MTS fg 1% bg 1% PLL@42.5C MCPU@42.5C PMIC@50C Tboard@38C GPU@39.5C BCPU@42.5C "
    "thermal@41.3C Tdiode@39.25C VDD_SYS_GPU 182/182 VDD_SYS_SOC 730/730 VDD_4V0_WIFI 0/0 "
    "VDD_IN 5297/5297 VDD_SYS_CPU 1917/1917 VDD_SYS_DDR 1241/1241"
)
XAVIER_AGX = (
    "CPU [0%@1190,1%@1190,0%@1190,0%@1189,0%@1190,0%@1191,0%@1190,0%@1190] EMC_FREQ 0%@1331 "
    "GR3D_FREQ 0%@114 VIC_FREQ 115 APE 150 AUX@36C CPU@36.5C thermal@35.7C Tboard@37C AO@35C "
    "GPU@35C Tdiode@38.75C PMIC@50C GPU 467mW/467mW CPU 467mW/467mW SOC 1245mW/1245mW CV 0mW/0mW "
    "VDDRQ 311mW/311mW SYS5V 2768mW/2768mW"
)
XAVIER_AGX_OLD = (
    "RAM 1545/31919MB (lfb 7400x4MB) SWAP 2/15959MB (cached 1MB) CPU [0%@1190,1%@1190] "
    "EMC_FREQ 1%@408 GR3D_FREQ 12%@318 AO@38C GPU@39.5C CPU@40C thermal@38.8C GPU 120/100 "
    "CPU 468/450 SOC 937/900 CV 0/0 VDDRQ 312/234 SYS5V 1458/1400"
)
THOR_JP7 = (
    "05-14-2026 21:36:35 RAM 26063/125772MB (lfb 35x4MB) CPU [2%@972] VDD_GPU -392mW/-392mW "
    "VDD_CPU_SOC_MSS 3924mW/3835mW VIN_SYS_5V0 5064mW/5055mW VIN 15004mW/15096mW"
)
THOR_R39 = (
    "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off,7%@2601] "
    "EMC_FREQ 34%@4266 GR3D_FREQ 87%@[1574,1574,1574] NVENC0_FREQ @1691 VIC off "
    "cpu@58.25C/61.75C tj@66.625C/66.625C gpu@56.937C/66.625C soc012@55.375C/58.781C "
    "soc345@55.812C/60.031C VDD_GPU 37939mW/8660mW/37939mW VDD_CPU_SOC_MSS 30059mW/12281mW/30059mW "
    "VIN_SYS_5V0 15486mW/7424mW/15486mW VIN 124486mW/36487mW/124486mW"
)
THOR_R39_IDLE = (
    "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 "
    "GR3D_FREQ @[1574,1574,1574] cpu@49.75C/49.75C tj@51.218C/51.218C gpu@51.218C/51.218C "
    "VDD_GPU 6330mW/6330mW/6330mW VIN 28906mW/14453mW/28906mW"
)

LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "orin-agx-jp5": (
        ORIN_AGX_JP5,
        {"total_w": 2.399 + 0.4 + 4.032, "tj": 42.593, "clocks": {"cpu": 729, "emc": 2133}},
    ),
    "orin-agx-jp6": (
        ORIN_AGX_JP6,
        {"total_w": 2.412 + 1.607 + 4.707, "tj": 52.562, "clocks": {"cpu": 2201, "emc": 2133}},
    ),
    "orin-nano": (
        ORIN_NANO,
        {"total_w": 12.479, "tj": 53.968, "clocks": {"cpu": 729, "emc": 2133, "gpu": 621}},
    ),
    "tx2": (TX2, {"total_w": 5.297, "clocks": {"cpu": 2034, "emc": 1866, "gpu": 114}}),
    "xavier-agx": (
        XAVIER_AGX,
        {
            "total_w": 0.467 + 0.467 + 1.245 + 0 + 0.311 + 2.768,
            "clocks": {"cpu": 1191, "emc": 1331, "gpu": 114},
        },
    ),
    "xavier-agx-old": (
        XAVIER_AGX_OLD,
        {
            "total_w": 0.120 + 0.468 + 0.937 + 0 + 0.312 + 1.458,
            "clocks": {"cpu": 1190, "emc": 408, "gpu": 318},
        },
    ),
    "thor-jp7": (THOR_JP7, {"total_w": 15.004, "clocks": {"cpu": 972}}),
    "thor-r39": (
        THOR_R39,
        {"total_w": 124.486, "tj": 66.625, "clocks": {"cpu": 2601, "emc": 4266, "gpu": 1574}},
    ),
    "thor-r39-idle": (
        THOR_R39_IDLE,
        {"total_w": 28.906, "tj": 51.218, "clocks": {"cpu": 2601, "emc": 4266, "gpu": 1574}},
    ),
}
