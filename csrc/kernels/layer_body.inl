// A layer of a WaveNet as tiles, stretch by stretch of time. Compiled per instruction set after
// rows_body.inl and under the same rules.
#include "kernels/layer_tile.inl"

namespace FXFAST_ISA_NAMESPACE {

// Tiles of one kind by height and width, none where a tile would be wider than its height allows.
using TileFunction = void (*)(const LayerTile&);
template <Beside kBeside, bool kIsLong>
struct TileFunctions {
  TileFunction of[kMaxRows + 1][kMaxLayerWidth + 1] = {};

  constexpr TileFunctions() { add<kMaxRows>(); }
  template <int kRows>
  constexpr void add() {
    add_widths<kRows, layer_width(kRows)>();
    if constexpr (kRows > 1) add<kRows - 1>();
  }
  template <int kRows, int kWidth>
  constexpr void add_widths() {
    of[kRows][kWidth] = layer_tile<kRows, kWidth, kBeside, kIsLong>;
    if constexpr (kWidth > 1) add_widths<kRows, kWidth - 1>();
  }
};
template <Beside kBeside, bool kIsLong>
static constexpr TileFunctions<kBeside, kIsLong> tile_functions{};

// How many rows of the panel's `left` the next tile takes: as even as they go.
constexpr int rows_of_tile(int left) {
  return left <= kMaxRows ? left : left >= 2 * kMaxRows ? kMaxRows : (left + 1) / 2;
}

// What a head that begins anew adds to.
alignas(64) static const float no_head[kMaxLayerWidth * kVec] = {};

// How many values are due at a time where there are more of them than terms: a divisor, so that
// the last time takes as many as the others.
static FXFAST_INLINE int tanh_at_once(int terms, int vectors) {
  int each = 1;
  while (each < vectors && (each * terms < vectors || vectors % each != 0)) ++each;
  return each;
}

// Sets how often a tile of so many terms takes how many of the vectors that are due.
static FXFAST_INLINE void set_pace(LayerTile& tile, int vectors, int terms) {
  tile.terms_per_tanh = vectors == 0 ? kNever : terms < vectors ? 1 : terms / vectors;
  tile.tanh_at_once = terms < vectors ? tanh_at_once(terms, vectors) : 1;
}

// By channels: how many a panel has, and how many vectors of time its narrowest tile is wide.
// Tables, because short blocks would else spend their time on divisions.
struct ChannelTables {
  unsigned char panel[kMaxLayerChannels + 1] = {}, width[kMaxLayerChannels + 1] = {};

  constexpr ChannelTables() {
    for (int channels = 1; channels <= kMaxLayerChannels; ++channels) {
      panel[channels] = (unsigned char)panel_channels(channels);
      width[channels] = (unsigned char)layer_width(rows_of_tile(panel[channels]));
    }
  }
};
static constexpr ChannelTables channel_tables{};

// A tile of every stretch: the first channel of its rows, and what does not change from stretch to
// stretch.
struct TileJob {
  TileFunction run;
  int channel, rows, pace;  // how many vectors the tile's pace was made for
  LayerTile tile;
};
constexpr int kMaxTileJobs = 2 * kMaxLayerChannels / kMaxPanelChannels;

// All tiles of `channels` rows; of(job, panel's first channel, row in it) sets up the rest.
template <typename Rest>
static FXFAST_INLINE int make_jobs(TileJob* jobs, int channels, const Rest& rest) {
  const int most = channel_tables.panel[channels];
  int count = 0;
  for (int first = 0, panel; first < channels; first += panel) {
    panel = channels - first < most ? channels - first : most;
    for (int row = 0, rows = 0; row < panel; row += rows) {
      rows = rows_of_tile(panel - row);
      TileJob& job = jobs[count++];
      job.channel = first + row;
      job.rows = rows;
      job.tile.panel_channels = panel;
      rest(job, first, row);
    }
  }
  return count;
}

// Where activations are made: in a tile; tanh beside the sums of the next tile, or after them, when
// its values have long been stored; the others right after the tile.
enum class Finish { kInTile, kBeside, kLater, kAfter };

// The tiles of one layer over stretches of one width.
template <Finish kFinish, bool kIsLong>
class LayerStretches {
 public:
  LayerStretches(const LayerTask& task, const TanhNumbers& numbers)
      : task_(task), numbers_(numbers) {}

  void set_width(int width) {
    width_ = width;
    make_conv_jobs();
    if (task_.output != nullptr) make_end_jobs();
  }

  // The convolution of the stretch at `start`, its sums to `a`. `due` is what is left of the
  // stretch before, whose end runs after the first tile.
  template <typename EndBefore>
  Due run_conv(int start, float* a, Due due, const EndBefore& end_before) {
    for (int j = 0; j < conv_count_; ++j) {
      TileJob& job = conv_[j];
      LayerTile& tile = job.tile;
      tile.condition = task_.condition + start;
      tile.input = task_.input + start;
      tile.output = a + job.channel * width_ * kVec;
      if (kFinish == Finish::kBeside) {
        const auto vectors = (int)((due.end - due.next) / kVec);
        if (vectors != job.pace) set_pace(tile, job.pace = vectors, terms_);
        tile.due = due;
      }
      job.run(tile);
      const int values = job.rows * width_ * kVec;
      if (kFinish == Finish::kLater) finish_due(due);
      if (kIsDue) due = {tile.output, tile.output + values};
      if (kFinish == Finish::kAfter) finish_rows(job);
      if (j == 0) end_before();
    }
    return due;
  }

  // The head and the 1x1 of a stretch. The values that are due are those of its last channels:
  // their tanh runs beside the terms of the others.
  void end(int start, const float* a, Due due) {
    if (task_.output == nullptr) {
      finish_due(due);
      return add_to_head(start, a);
    }
    const bool beside = kFinish == Finish::kBeside && due.next != due.end && due.next != a;
    if (!beside) finish_due(due);
    for (int j = 0; j < end_count_; ++j) {
      TileJob& job = end_[j];
      LayerTile& tile = job.tile;
      tile.input = a;
      tile.add = task_.residual == nullptr
                     ? nullptr
                     : task_.residual + job.channel * task_.residual_stride + start;
      tile.output = task_.output + job.channel * task_.output_stride + start;
      if (j > 0) {
        job.run(tile);
        continue;
      }
      tile.head = task_.head + start;
      tile.head_sum = task_.head_sum == nullptr ? no_head : task_.head_sum + start;
      if (!beside) {
        job.run(tile);
        continue;
      }
      const auto vectors = (int)((due.end - due.next) / kVec);
      const int ready = conv_[conv_count_ - 1].channel;
      if (vectors != end_pace_) set_pace(tile, end_pace_ = vectors, ready);
      tile.due = due;
      head_beside_tanh_(tile);
    }
  }

 private:
  void make_conv_jobs() {
    // With one input channel the taps take the place of the channels, as in conv_panels.
    const bool single = task_.in_channels == 1;
    terms_ = task_.in_channels * task_.taps;
    conv_shape_.numbers = &numbers_;
    conv_shape_.condition_stride = task_.condition_stride;
    conv_shape_.condition_channels = task_.condition_channels;
    conv_shape_.input_stride = single ? task_.dilation : task_.input_stride;
    conv_shape_.in_channels = single ? task_.taps : task_.in_channels;
    conv_shape_.tap_stride = single ? 0 : task_.dilation;
    conv_shape_.taps = single ? 1 : task_.taps;
    conv_shape_.add_stride = 0;
    conv_shape_.output_stride = width_ * kVec;
    conv_count_ = make_jobs(conv_, task_.channels, [&](TileJob& job, int first, int row) {
      constexpr Beside kBeside = kFinish == Finish::kBeside ? Beside::kTanh : Beside::kNothing;
      job.run = tile_functions<kBeside, kIsLong>.of[job.rows][width_];
      job.pace = -1;
      LayerTile& tile = job.tile;
      tile.shape = &conv_shape_;
      tile.condition_weights = task_.condition_weights + first * task_.condition_channels + row;
      tile.weights = task_.weights + (std::ptrdiff_t)first * terms_ + row;
      tile.bias = task_.bias + job.channel;
      tile.slopes = kFinish == Finish::kInTile ? task_.params + job.channel : nullptr;
      tile.add = nullptr;
      tile.due = {nullptr, nullptr};
    });
  }

  void make_end_jobs() {
    end_pace_ = -1;
    end_shape_.numbers = &numbers_;
    end_shape_.condition_stride = 0;
    end_shape_.condition_channels = 0;
    end_shape_.input_stride = width_ * kVec;
    end_shape_.in_channels = task_.channels;
    end_shape_.tap_stride = 0;
    end_shape_.taps = 1;
    end_shape_.add_stride = task_.residual_stride;
    end_shape_.output_stride = task_.output_stride;
    end_shape_.head_stride = task_.head_stride;
    end_shape_.head_sum_stride = task_.head_sum == nullptr ? 0 : task_.head_sum_stride;
    end_count_ = make_jobs(end_, task_.out_channels, [&](TileJob& job, int first, int row) {
      const auto& plain = tile_functions<Beside::kNothing, false>.of;
      const auto& with_head = tile_functions<Beside::kHead, false>.of;
      job.run = (job.channel == 0 ? with_head : plain)[job.rows][width_];
      LayerTile& tile = job.tile;
      tile.shape = &end_shape_;
      tile.condition = tile.condition_weights = tile.slopes = nullptr;
      tile.weights = task_.output_weights + first * task_.channels + row;
      tile.bias = task_.output_bias + job.channel;
    });
    if constexpr (kFinish == Finish::kBeside) {
      head_beside_tanh_ = tile_functions<Beside::kTanhAndHead, false>.of[end_[0].rows][width_];
    }
  }

  void finish_due(Due due) {
    if (!kIsDue) return;
    while (due.next != due.end) tanh_step<false>(due, numbers_);
  }

  void finish_rows(const TileJob& job) {
    if (task_.activation == Activation::kNone) return;
    const std::ptrdiff_t pitch = width_ * kVec;
    activate({job.tile.output, job.tile.output, task_.params, pitch, pitch, job.rows, width_ * kVec,
              task_.activation});
  }

  void add_to_head(int start, const float* a) {
    for (int c = 0; c < task_.channels; ++c, a += width_ * kVec) {
      float* y = task_.head + c * task_.head_stride + start;
      const float* sum =
          task_.head_sum == nullptr ? no_head : task_.head_sum + c * task_.head_sum_stride + start;
      for (int n = 0; n < width_; ++n) {
        store(y + n * kVec, load(sum + n * kVec) + load(a + n * kVec));
      }
    }
  }

  static constexpr bool kIsDue = kFinish == Finish::kBeside || kFinish == Finish::kLater;

  const LayerTask& task_;
  const TanhNumbers& numbers_;
  int width_, terms_, conv_count_, end_count_ = 0, end_pace_;
  TileFunction head_beside_tanh_ = nullptr;
  TileShape conv_shape_, end_shape_;
  TileJob conv_[kMaxTileJobs], end_[kMaxTileJobs];
};

// The least width of the panels' tiles.
static FXFAST_INLINE int stretch_width(int channels, int out_channels) {
  const int width = channel_tables.width[channels];
  if (out_channels == 0) return width;
  const int out_width = channel_tables.width[out_channels];
  return out_width < width ? out_width : width;
}

template <Finish kFinish, bool kIsLong>
void layer_stretches(const LayerTask& task) noexcept {
  alignas(64) float values[2][kMaxLayerChannels * kWidthOfMany * kVec];
  const TanhNumbers numbers = tanh_numbers();
  LayerStretches<kFinish, kIsLong> stretches(task, numbers);
  const int samples = (task.samples + kVec - 1) / kVec * kVec;
  const int most =
      kVec * stretch_width(task.channels, task.output == nullptr ? 0 : task.out_channels);
  int width = 0;
  Due due = {nullptr, nullptr};
  for (int start = 0, now = 0; start < samples; start += width, now ^= 1) {
    const int before = start - width, left = samples - start;
    const int next = left < most ? left : most;
    if (next != width) {
      // The stretch before has another width, and its end comes first.
      if (start > 0) stretches.end(before, values[now ^ 1], due);
      due = {nullptr, nullptr};
      stretches.set_width(next / kVec);
    }
    const bool is_open = start > 0 && next == width;
    width = next;
    due = stretches.run_conv(start, values[now], due, [&] {
      if (is_open) stretches.end(before, values[now ^ 1], {nullptr, nullptr});
    });
    if (start + width >= samples) stretches.end(start, values[now], due);
  }
}

template <Finish kFinish>
void layer_of_any_length(const LayerTask& task) noexcept {
  if (task.condition_channels + task.in_channels * task.taps > kRunTerms) {
    return layer_stretches<kFinish, true>(task);
  }
  layer_stretches<kFinish, false>(task);
}

void layer(const LayerTask& task) noexcept {
  constexpr Finish kTanh = kTanhBeside ? Finish::kBeside : Finish::kLater;
  switch (task.activation) {
    case Activation::kPrelu: return layer_of_any_length<Finish::kInTile>(task);
    case Activation::kTanh: return layer_of_any_length<kTanh>(task);
    default: return layer_of_any_length<Finish::kAfter>(task);
  }
}

}  // namespace FXFAST_ISA_NAMESPACE
