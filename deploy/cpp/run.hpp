// An example that is also the test: frames from folders of raw tensors, results to another folder.
#pragma once

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>

#include "ports.hpp"

namespace edgeport {

inline bool is_state_input(const Model& model, std::size_t input) {
  for (std::size_t i = 0; i < model.state_count; ++i) {
    if (model.states[i].input == input) return true;
  }
  return false;
}

inline void read(const std::filesystem::path& path, void* memory, std::size_t bytes) {
  std::ifstream file(path, std::ios::binary);
  file.read(static_cast<char*>(memory), static_cast<std::streamsize>(bytes));
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    throw std::runtime_error(path.string() + " does not hold " + std::to_string(bytes) + " bytes");
  }
}

inline void write(const std::filesystem::path& path, const void* memory, std::size_t bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(memory), static_cast<std::streamsize>(bytes));
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

// FILE OUTPUT FRAME...: each FRAME is a folder with NAME.bin for every input; one that is absent
// keeps the last frame's values. Frames are one sequence. OUTPUT/0, OUTPUT/1, ... get NAME.bin of
// every output.
template <class Session>
int run(const Model& model, int argc, char** argv) try {
  namespace fs = std::filesystem;
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s FILE OUTPUT FRAME...\n", argv[0]);
    return 2;
  }
  Session session(model, argv[1]);
  session.reset();
  for (int frame = 3; frame < argc; ++frame) {
    for (std::size_t i = 0; i < model.input_count; ++i) {
      if (is_state_input(model, i)) continue;
      const Port& port = model.inputs[i];
      const fs::path file = fs::path(argv[frame]) / (std::string(port.name) + ".bin");
      if (frame > 3 && !fs::exists(file)) continue;
      read(file, session.input(i), port.bytes());
    }
    const auto start = std::chrono::steady_clock::now();
    session.run();
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    const fs::path folder = fs::path(argv[2]) / std::to_string(frame - 3);
    fs::create_directories(folder);
    for (std::size_t i = 0; i < model.output_count; ++i) {
      const Port& port = model.outputs[i];
      write(folder / (std::string(port.name) + ".bin"), session.output(i), port.bytes());
    }
    std::printf("%s: %.2f ms\n", argv[frame], taken.count());
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}

}  // namespace edgeport
