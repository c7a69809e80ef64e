// Streams a WAV file through a scripted fxfast model in blocks, with libtorch and no Python:
//   stream_wav libfxfast_torch.so model.ts in.wav out.wav [block samples, default 64]
// Reads 16-bit or float WAV at the model's rate, any number of channels; writes float WAV.
// Built with: g++ -std=c++20 -I$TORCH/include -I$TORCH/include/torch/csrc/api/include
//   stream_wav.cpp -L$TORCH/lib -Wl,--no-as-needed,-rpath,$TORCH/lib -ltorch -ltorch_cpu -lc10 -ldl
#include <dlfcn.h>
#include <torch/script.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

struct Format {
  std::uint16_t tag, channels;
  std::uint32_t rate, bytes_per_second;
  std::uint16_t bytes_per_frame, bits;
};

std::vector<float> read_wav(const char* path, Format& format) {
  std::ifstream file(path, std::ios::binary);
  std::vector<float> samples;
  char id[5] = {};
  std::uint32_t size;
  file.seekg(12);
  while (file.read(id, 4) && file.read(reinterpret_cast<char*>(&size), 4)) {
    std::string body(size + size % 2, 0);
    file.read(body.data(), body.size());
    const auto* pcm = reinterpret_cast<const std::int16_t*>(body.data());
    const auto* floats = reinterpret_cast<const float*>(body.data());
    if (id == std::string("fmt ")) std::memcpy(&format, body.data(), sizeof(format));
    if (id != std::string("data")) continue;
    if (format.tag == 3 && format.bits == 32) samples.assign(floats, floats + size / 4);
    if (format.tag == 1 && format.bits == 16) samples.assign(pcm, pcm + size / 2);
    if (format.tag == 1) std::ranges::for_each(samples, [](float& x) { x /= 32768.0f; });
  }
  if (samples.empty() || format.channels == 0)
    throw std::runtime_error("expected a 16-bit or float WAV");
  return samples;
}

void write_wav(const char* path, const std::vector<float>& samples, std::uint32_t channels,
               std::uint32_t rate) {
  const std::uint32_t size = samples.size() * 4, frame = channels * 4;
  const std::uint32_t head[] = {
      0x46464952, 36 + size,    0x45564157,       0x20746d66, 16,  3 | channels << 16,
      rate,       rate * frame, frame | 32 << 16, 0x61746164, size};
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(head), sizeof(head));
  file.write(reinterpret_cast<const char*>(samples.data()), size);
  if (!file.flush()) throw std::runtime_error("cannot write the output");
}

int main(int argc, char** argv) try {
  if (argc < 5) throw std::runtime_error("usage: LIBRARY MODEL IN.wav OUT.wav [BLOCK]");
  if (dlopen(argv[1], RTLD_NOW) == nullptr) throw std::runtime_error(dlerror());
  torch::jit::Module model = torch::jit::load(argv[2]);
  Format format = {};
  std::vector<float> samples = read_wav(argv[3], format);
  if (model.attr("sample_rate").toInt() != format.rate) throw std::runtime_error("another rate");
  const torch::InferenceMode no_gradients;
  const std::int64_t block = argc > 5 ? std::stol(argv[5]) : 64, channels = format.channels;
  const std::int64_t frames = samples.size() / channels;
  torch::Tensor audio = torch::from_blob(samples.data(), {1, frames, channels});
  torch::Tensor state = model.get_method("initial_state")({1, channels}).toTensor();
  for (std::int64_t start = 0; start < frames; start += block) {
    torch::Tensor part = audio.slice(1, start, std::min(start + block, frames)).transpose(1, 2);
    part.copy_(model.forward({part, state}).toTuple()->elements()[0].toTensor());
  }
  write_wav(argv[4], samples, format.channels, format.rate);
} catch (const std::exception& error) {
  std::fprintf(stderr, "stream_wav: %s\n", error.what());
  return 1;
}
