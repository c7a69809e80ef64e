#include "engine/time_grid.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/check.h"
#include "engine/filter.h"

namespace fxfast {
namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw ModelError("plan: expected a whole and consistent plan, got " + what);
}

// Calls visit(line) for each line of an operation.
template <typename Visit>
void for_each_line(const PlanOp& op, const Visit& visit) {
  for (const Operand& operand : {op.a, op.b, op.c, op.output}) {
    if (operand.line != kNoLine) visit(operand.line);
  }
}

std::uint64_t common_multiple(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t multiple = std::lcm(a, b);
  if (multiple > kMaxGridSamples) {
    throw ModelError("grid: expected at most " + std::to_string(kMaxGridSamples) +
                     " samples, got " + std::to_string(multiple));
  }
  return multiple;
}

std::uint64_t reach_of(const PlanOp& op) {
  if (op.is_filter()) {
    const std::int64_t reach = op.step > 0 ? OfflineFilterLayout(op.taps).reach_samples()
                                           : FilterLayout(op.taps).reach_samples();
    return static_cast<std::uint64_t>(reach);
  }
  // In lanes only a transform mixes samples, those of a block.
  const std::uint32_t block = op.transform > 0 ? op.lane_block : 0;
  const std::uint32_t spread = op.lane_block > 0 ? block : op.step;
  return op.history_samples() + (spread > 0 ? spread - 1 : 0);
}

}  // namespace

void choose_steps(const PlanOptions& options, std::vector<PlanOp>& ops) {
  for (std::size_t i = 0; i < std::min(ops.size(), options.steps.size()); ++i) {
    ops[i].step = options.steps[i];
  }
  if (!options.is_offline) return;
  std::uint64_t grid = grid_of(ops);
  for (PlanOp& op : ops) {
    if (!op.is_filter()) continue;
    const auto step = static_cast<std::uint64_t>(OfflineFilterLayout(op.taps).step);
    // Beside steps that have no short common multiple, the filter of a stream does the same.
    if (step == 0 || std::lcm(grid, step) > kMaxGridSamples) continue;
    grid = std::lcm(grid, step);
    op.step = static_cast<std::uint32_t>(step);
  }
}

std::vector<PlanLine> lines_of(const Program& program, const std::vector<PlanOp>& ops) {
  std::vector<PlanLine> lines(program.line_channels.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    lines[i].channels = static_cast<std::uint32_t>(program.line_channels[i]);
  }
  for (const PlanOp& op : ops) {
    const bool has_taps = op.kind == static_cast<std::uint32_t>(OpKind::kConv) || op.is_filter();
    if (!has_taps || op.a.line >= lines.size()) continue;
    std::uint32_t& history = lines[op.a.line].history;
    history = std::max(history, op.history_samples());
  }
  return lines;
}

std::int64_t receptive_field_of(const Program& program) {
  std::vector<std::int64_t> reach(program.line_channels.size(), -1);
  reach[0] = 0;
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    std::int64_t longest = 0;
    const auto read = [&](const Operand& operand, std::int64_t history) {
      if (operand.line == kNoLine) return;
      require(reach[operand.line] >= 0,
              "a line that ops[" + std::to_string(i) + "] reads before it is written");
      longest = std::max(longest, reach[operand.line] + history);
    };
    read(op.a, op.history_samples());
    read(op.b, 0);
    read(op.c, 0);
    reach[op.output.line] = std::max(reach[op.output.line], longest);
  }
  require(reach[program.output_line] >= 0, "an output line that is never written");
  return 1 + reach[program.output_line];
}

std::uint32_t grid_of(std::span<const PlanOp> ops) {
  std::uint64_t grid = 1;
  for (const PlanOp& op : ops) {
    require(op.step % kMaxVectorFloats == 0, "a step that is no multiple of a vector");
    if (op.step > 0) grid = common_multiple(grid, op.step);
  }
  return static_cast<std::uint32_t>(grid);
}

std::uint32_t alignment_of(std::span<const PlanOp> ops) {
  std::uint64_t alignment = grid_of(ops);
  for (const PlanOp& op : ops) {
    if (!op.is_filter() || op.step > 0) continue;
    const int block = FilterLayout(op.taps).grid_samples();
    alignment = common_multiple(alignment, static_cast<std::uint64_t>(block));
  }
  return static_cast<std::uint32_t>(alignment);
}

std::uint64_t reach_of(const PlanHeader& header, const std::vector<PlanLine>& lines,
                       const std::vector<PlanOp>& ops) {
  std::vector<std::uint64_t> reach(lines.size(), 0);
  for (const PlanOp& op : ops) {
    std::uint64_t longest = 0;
    for (const Operand& operand : {op.a, op.b, op.c}) {
      if (operand.line != kNoLine) longest = std::max(longest, reach[operand.line]);
    }
    longest += reach_of(op);
    reach[op.output.line] = std::max(reach[op.output.line], longest);
  }
  return reach[header.output_line];
}

void assign_groups(const PlanHeader& header, const std::vector<PlanOp>& ops,
                   std::vector<PlanLine>& lines) {
  constexpr std::uint32_t kUnused = kSpansGrid - 1;
  for (PlanLine& line : lines) line.group = header.grid_samples == 1 ? 0 : kUnused;
  if (header.grid_samples == 1) return;
  std::uint32_t group = 0;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (i > 0 && ops[i].step != ops[i - 1].step) ++group;
    for_each_line(ops[i], [&](std::uint32_t l) {
      const bool alone = lines[l].group == kUnused || lines[l].group == group;
      const bool is_local = ops[i].step == 0 || lines[l].lane_block > 0;
      lines[l].group = alone && is_local ? group : kSpansGrid;
    });
  }
  lines[0].group = lines[header.output_line].group = kSpansGrid;
  for (PlanLine& line : lines) line.group = line.group == kUnused ? 0 : line.group;
}

void check_groups(const PlanView& plan) {
  const std::uint32_t grid = plan.header().grid_samples;
  const auto spans = [&](std::uint32_t l) { return plan.line(l).group == kSpansGrid; };
  for (std::uint32_t l = 0; l < plan.line_count(); ++l) {
    require(grid > 1 || plan.line(l).group == 0, "a line of a group without a grid");
  }
  require(grid == 1 || (spans(0) && spans(plan.header().output_line)),
          "an end that does not span the grid");
  std::uint32_t group = 0;
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < plan.op_count(); ++i) {
    const PlanOp& op = plan.op(i);
    most += reach_of(op);
    if (i > 0 && op.step != plan.op(i - 1).step) ++group;
    require(op.step == 0 || (grid > 1 && grid % op.step == 0 && op.step % kMaxVectorFloats == 0),
            "a step off the grid");
    for_each_line(op, [&](std::uint32_t l) {
      const bool is_local = op.step == 0 || plan.line(l).lane_block > 0;
      require(spans(l) || (is_local && plan.line(l).group == group),
              "a line that does not span the grid");
    });
  }
  require(plan.header().reach <= most, "a reach beyond its operations");
  require(plan.header().alignment_samples == alignment_of({&plan.op(0), plan.op_count()}),
          "another alignment");
}

}  // namespace fxfast
