#include "engine/lane_plan.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "kernels/pack_spectra.h"

namespace fxfast {
namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw ModelError("plan: expected a whole and consistent plan, got " + what);
}

// --- costs in multiply-adds of a vector of lanes, measured beside the peak ----------------------

// The share of the peak of direct convolutions and of products of spectra.
constexpr double kDirectShare = 0.95;
constexpr double kProductShare = 0.85;
// A transform of a pair of rows, and a copy of a row between layouts.
constexpr double kTransformCost = 28.0 * kTransform;
constexpr double kLayoutCost = 2.0 * kLanePiece;
// What a weight costs that is read from memory in every piece, and how many come from the caches.
constexpr double kMemoryCost = 0.7;
constexpr double kCachedFloats = 1 << 20;
// A transform has to be so much better: it takes more memory, and a whole grid at once.
constexpr double kMargin = 0.8;
constexpr std::ptrdiff_t kMaxSpectraFloats = std::ptrdiff_t{1} << 24;

double direct_cost(const PlanOp& op) {
  return static_cast<double>(op.in_channels) * op.out_channels * op.taps * kLaneBlock /
         kDirectShare;
}

double transform_cost(const PlanOp& op) {
  const auto rows_in = spectral_rows_in(op.in_channels, static_cast<int>(op.taps));
  const auto rows_out = spectral_rows_out(op.out_channels);
  const double products = (3.0 * (kBins - 2) + 2.0) * static_cast<double>(rows_in * rows_out);
  const double pairs = static_cast<double>(rows_in + rows_out) / 2.0;
  const double floats = static_cast<double>(
      spectra_floats(op.out_channels, op.in_channels, static_cast<int>(op.taps)));
  const double from_memory = std::max(0.0, floats - kCachedFloats) * kMemoryCost;
  return products / kProductShare + pairs * kTransformCost + from_memory;
}

bool is_conv(const PlanOp& op) { return op.kind == static_cast<std::uint32_t>(OpKind::kConv); }

bool can_run_in_lanes(const PlanOp& op) {
  const auto kind = static_cast<OpKind>(op.kind);
  if (kind == OpKind::kActivate || kind == OpKind::kCombine) return true;
  return kind == OpKind::kConv && op.history_samples() <= kLaneBlock;
}

bool can_transform(const PlanOp& op) {
  return is_conv(op) && op.dilation == 1 && op.b.line == kNoLine && op.taps > 1 &&
         op.history_samples() <= kLaneBlock &&
         spectra_floats(op.out_channels, op.in_channels, static_cast<int>(op.taps)) <=
             kMaxSpectraFloats;
}

// --- runs of operations in lanes
// ------------------------------------------------------------------

bool reads_line(const PlanOp& op, std::uint32_t line) {
  return op.a.line == line || op.b.line == line || op.c.line == line;
}

struct Run {
  std::size_t first, end;
};

// How a run uses a line.
struct Use {
  bool inside = false, is_written_inside = false, outside = false;
  bool enters = false, leaves = false;
  std::uint32_t history = 0, writers = 0;
};

Use use_of(std::uint32_t line, Run run, std::uint32_t output_line, const std::vector<PlanOp>& ops) {
  Use use;
  use.outside = line == 0 || line == output_line;
  bool is_written_before = line == 0, is_read_after = line == output_line;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const bool reads = reads_line(ops[i], line), writes = ops[i].output.line == line;
    if (i >= run.first && i < run.end) {
      use.inside = use.inside || reads || writes;
      use.writers += writes ? 1 : 0;
      if (is_conv(ops[i]) && ops[i].a.line == line) {
        use.history = std::max(use.history, ops[i].history_samples());
      }
    } else {
      use.outside = use.outside || reads || writes;
      is_written_before = is_written_before || (writes && i < run.first);
      is_read_after = is_read_after || (reads && i >= run.end);
    }
  }
  use.is_written_inside = use.writers > 0;
  use.enters = use.inside && is_written_before;
  use.leaves = use.is_written_inside && is_read_after;
  use.writers += use.enters ? 1 : 0;
  return use;
}

class LanePlan {
 public:
  LanePlan(const LaneOptions& options, std::vector<PlanOp>& ops, std::vector<const Op*>& sources,
           std::vector<PlanLine>& lines)
      : options_(options), ops_(ops), sources_(sources), lines_(lines) {}

  // From the last run to the first, so that the places of earlier ones stay.
  void use_all() {
    for (std::size_t end = ops_.size(); end > 0;) {
      std::size_t first = end;
      while (first > 0 && can_run_in_lanes(ops_[first - 1])) --first;
      if (first < end) use({first, end});
      end = first == end ? end - 1 : first;
    }
    set_histories();
  }

 private:
  bool transforms(const PlanOp& op) const {
    return can_transform(op) &&
           (options_.all_transforms || transform_cost(op) < kMargin * direct_cost(op));
  }

  void use(Run run) {
    std::vector<Use> uses;
    for (std::uint32_t l = 0; l < lines_.size(); ++l) {
      uses.push_back(use_of(l, run, options_.output_line, ops_));
    }
    if (is_worth_it(run, uses)) move(run, uses);
  }

  bool is_worth_it(Run run, const std::vector<Use>& uses) const {
    double gain = 0.0;
    for (std::size_t i = run.first; i < run.end; ++i) {
      if (transforms(ops_[i])) gain += direct_cost(ops_[i]) - transform_cost(ops_[i]);
    }
    for (std::size_t l = 0; l < uses.size(); ++l) {
      const int copies = (uses[l].enters ? 1 : 0) + (uses[l].leaves ? 1 : 0);
      gain -= copies * kLayoutCost * lines_[l].channels;
      // What a row carries over is taken once: its history is written by one operation only.
      if (uses[l].inside && uses[l].history > 0 && uses[l].writers > 1) return false;
    }
    return gain > 0.0 || options_.all_transforms;
  }

  void move(Run run, const std::vector<Use>& uses) {
    std::vector<std::uint32_t> place(uses.size());
    std::vector<PlanOp> before, after;
    for (std::uint32_t l = 0; l < uses.size(); ++l) {
      place[l] = l;
      if (!uses[l].inside) continue;
      if (uses[l].outside) {
        place[l] = static_cast<std::uint32_t>(lines_.size());
        lines_.push_back({});
        lines_.back().channels = lines_[l].channels;
      }
      lines_[place[l]].lane_block = kLaneBlock;
      if (uses[l].enters) before.push_back(copy(OpKind::kToLanes, l, place[l]));
      if (uses[l].leaves) after.push_back(copy(OpKind::kFromLanes, place[l], l));
    }
    for (std::size_t i = run.first; i < run.end; ++i) {
      PlanOp& op = ops_[i];
      op.transform = transforms(op) ? kTransform : 0;
      op.lane_block = kLaneBlock;
      op.step = kLanePiece;
      for (Operand* operand : {&op.a, &op.b, &op.c, &op.output}) {
        if (operand->line != kNoLine) operand->line = place[operand->line];
      }
    }
    insert(run.end, after);
    insert(run.first, before);
  }

  PlanOp copy(OpKind kind, std::uint32_t from, std::uint32_t to) const {
    PlanOp op{};
    op.kind = static_cast<std::uint32_t>(kind);
    op.out_channels = lines_[from].channels;
    op.taps = op.dilation = 1;
    op.a = {from, 0};
    op.b = op.c = {kNoLine, 0};
    op.output = {to, 0};
    op.step = kLanePiece;
    op.lane_block = kLaneBlock;
    return op;
  }

  void insert(std::size_t at, const std::vector<PlanOp>& copies) {
    ops_.insert(ops_.begin() + static_cast<std::ptrdiff_t>(at), copies.begin(), copies.end());
    sources_.insert(sources_.begin() + static_cast<std::ptrdiff_t>(at), copies.size(), nullptr);
  }

  void set_histories() {
    for (PlanLine& line : lines_) line.history = 0;
    for (const PlanOp& op : ops_) {
      std::uint32_t& history = lines_[op.a.line].history;
      history = std::max(history, op.history_samples());
    }
  }

  LaneOptions options_;
  std::vector<PlanOp>& ops_;
  std::vector<const Op*>& sources_;
  std::vector<PlanLine>& lines_;
};

void check_transform(const PlanOp& op) {
  require(op.transform == 0 || op.transform == kTransform, "an unknown transform");
  if (op.transform == 0) return;
  require(
      op.lane_block > 0 && op.dilation == 1 && op.b.line == kNoLine && op.taps <= kLaneBlock + 1,
      "a transform of another operation");
  require(spectra_floats(op.out_channels, op.in_channels, static_cast<int>(op.taps)) <=
              kMaxSpectraFloats,
          "more spectra than the limit");
}

}  // namespace

void use_lanes(const LaneOptions& options, std::vector<PlanOp>& ops,
               std::vector<const Op*>& sources, std::vector<PlanLine>& lines) {
  LanePlan(options, ops, sources, lines).use_all();
}

void check_lanes(const PlanView& plan) {
  for (std::size_t l = 0; l < plan.line_count(); ++l) {
    const PlanLine& line = plan.line(l);
    require(line.reserved == 0 && (line.lane_block == 0 || line.lane_block == kLaneBlock),
            "an unknown layout");
    require(line.lane_block == 0 || (line.history <= kLaneBlock && line.group != kSpansGrid),
            "a line that does not fit into lanes");
  }
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    const auto kind = static_cast<OpKind>(op.kind);
    require(op.lane_block == 0 || op.lane_block == kLaneBlock, "an unknown layout");
    require(op.lane_block == 0 ||
                (op.step == kLanePiece && kind != OpKind::kRecurrent && kind != OpKind::kFilter),
            "an operation that does not fit into lanes");
    require(op.lane_block > 0 || !is_layout(kind), "a layout without lanes");
    check_transform(op);
    const auto expect = [&](const Operand& operand, std::uint32_t block) {
      require(operand.line == kNoLine || plan.line(operand.line).lane_block == block,
              "a line of another layout than its operation's");
    };
    expect(op.a, kind == OpKind::kToLanes ? 0 : op.lane_block);
    expect(op.b, op.lane_block);
    expect(op.c, op.lane_block);
    expect(op.output, kind == OpKind::kFromLanes ? 0 : op.lane_block);
  }
}

}  // namespace fxfast
