// Streams a WAV file through a scripted fxfast model in blocks, with libtorch and no Python:
//   stream_wav libfxfast_torch.so model.ts in.wav out.wav [block samples, default 64]
// Reads 16-bit or float WAV at the model's rate, any number of channels; writes float WAV.
// Built with: g++ -std=c++20 -I$TORCH/include -I$TORCH/include/torch/csrc/api/include
//   stream_wav.cpp -L$TORCH/lib -Wl,--no-as-needed,-rpath,$TORCH/lib -ltorch -ltorch_cpu -lc10 -ldl
#include <dlfcn.h>
#include <torch/script.h>

#include <cstdio>
#include <fstream>

struct Wav {
  std::int64_t channels = 0, rate = 0;
  std::vector<float> samples;  // frame after frame
};

Wav read_wav(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const auto number = [&](std::size_t at, int size) {  // little endian, as the machine
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.substr(at, size).data(), size);
    return value;
  };
  Wav wav;
  std::uint32_t bits = 0, format = 0;
  for (std::size_t at = 12; at + 8 <= bytes.size(); at += 8 + (number(at + 4, 4) + 1) / 2 * 2) {
    const std::string id = bytes.substr(at, 4), body = bytes.substr(at + 8, number(at + 4, 4));
    if (id == "fmt ") wav.channels = number(at + 10, 2), wav.rate = number(at + 12, 4);
    if (id == "fmt ") format = number(at + 8, 2), bits = number(at + 22, 2);
    if (id != "data" || !((format == 1 && bits == 16) || (format == 3 && bits == 32))) continue;
    for (std::size_t i = 0; i + bits / 8 <= body.size(); i += bits / 8) {
      float sample;
      std::int16_t pcm;
      std::memcpy(&sample, body.data() + i, std::min<std::size_t>(4, body.size() - i));
      std::memcpy(&pcm, body.data() + i, 2);
      wav.samples.push_back(bits == 16 ? pcm / 32768.0f : sample);
    }
  }
  if (wav.channels == 0 || wav.samples.empty())
    throw std::runtime_error("expected a 16-bit or float WAV");
  return wav;
}

void write_wav(const char* path, const Wav& wav) {
  const std::uint32_t data = wav.samples.size() * 4, frame = wav.channels * 4;
  const std::uint32_t head[] = {0x46464952,
                                36 + data,
                                0x45564157,
                                0x20746d66,
                                16,  // fmt: float
                                3u | std::uint32_t(wav.channels) << 16,
                                std::uint32_t(wav.rate),
                                std::uint32_t(wav.rate) * frame,
                                frame | 32u << 16,
                                0x61746164,
                                data};
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(head), sizeof(head));
  file.write(reinterpret_cast<const char*>(wav.samples.data()), data);
  if (!file.flush()) throw std::runtime_error("cannot write the output");
}

int main(int argc, char** argv) try {
  if (argc < 5) throw std::runtime_error("usage: LIBRARY MODEL IN.wav OUT.wav [BLOCK]");
  if (dlopen(argv[1], RTLD_NOW) == nullptr) throw std::runtime_error(dlerror());
  torch::jit::Module model = torch::jit::load(argv[2]);
  Wav wav = read_wav(argv[3]);
  if (model.attr("sample_rate").toInt() != wav.rate) throw std::runtime_error("another rate");
  const torch::InferenceMode no_gradients;
  const std::int64_t block = argc > 5 ? std::stol(argv[5]) : 64;
  const std::int64_t frames = wav.samples.size() / wav.channels;
  torch::Tensor audio = torch::from_blob(wav.samples.data(), {1, frames, wav.channels});
  torch::Tensor state = model.get_method("initial_state")({1, wav.channels}).toTensor();
  for (std::int64_t start = 0; start < frames; start += block) {
    torch::Tensor part = audio.slice(1, start, std::min(start + block, frames)).transpose(1, 2);
    part.copy_(model.forward({part, state}).toTuple()->elements()[0].toTensor());
  }
  write_wav(argv[4], wav);
} catch (const std::exception& error) {
  std::fprintf(stderr, "stream_wav: %s\n", error.what());
  return 1;
}
