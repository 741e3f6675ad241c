#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/device_call.h"
#include "models/token_renderer.h"
#include "models/window_networks.h"
#include "models/window_plan.h"

namespace tts {

/// How a model computes its windows.
struct WindowOptions {
  Placement placement;
  std::int64_t max_batch = 64;  ///< windows in one call
  std::size_t lanes = 2;        ///< threads whose calls are on the device at once
  MakeDeviceLane make_lane = make_device_lane;
};

/// What a call does, and of what shape one row of its batch is.
struct WindowShape {
  DeviceLanes::Key key;             ///< equal for what can be in one call
  bool recurring = true;            ///< comes again and again
  std::vector<DeviceInput> inputs;  ///< of a row
  DeviceFunction function;
};

/// A call's inputs for `rows` rows.
[[nodiscard]] inline std::vector<DeviceInput> inputs_of(const WindowShape& shape, std::int64_t rows) {
  std::vector<DeviceInput> inputs = shape.inputs;
  for (DeviceInput& input : inputs) input.shape.insert(input.shape.begin(), rows);
  return inputs;
}

/// Runs items of equal shape in calls of at most max_batch. An Item has a `shape` and a `job`, puts its input into a
/// row (fill) and keeps its row of the result (take). Where a call fails for an item alone, its job has.
template <class Item>
void run_windows(DeviceLanes::Held& lane, const WindowOptions& options, std::vector<Item>& items) {
  const bool captured = !options.placement.device.is_cpu();
  std::map<DeviceLanes::Key, std::vector<Item*>> groups;
  for (Item& item : items) groups[item.shape.key].push_back(&item);
  for (const auto& [key, group] : groups) {
    const WindowShape& shape = group.front()->shape;
    const auto call = [&](std::size_t first, std::size_t count) {
      auto rows = static_cast<std::int64_t>(count);
      if (captured) {  // few different batches
        rows = 1;
        while (rows < static_cast<std::int64_t>(count)) rows *= 2;
      }
      const std::vector<DeviceInput> inputs = inputs_of(shape, rows);
      DeviceLanes::Key whole = key;
      whole.push_back(rows);
      std::unique_ptr<DeviceCall> once;
      if (!captured || !shape.recurring) once = lane.once(inputs, shape.function);
      DeviceCall& device = once ? *once : lane.recurring(whole, inputs, shape.function);
      for (std::size_t i = 0; i < count; ++i) group[first + i]->fill(device.inputs(), static_cast<std::int64_t>(i));
      const at::Tensor result = device.run();
      for (std::size_t i = 0; i < count; ++i) group[first + i]->take(result[static_cast<std::int64_t>(i)]);
    };
    run_in_batches(group.size(), static_cast<std::size_t>(options.max_batch), call,
                   [&](std::size_t i, bool out_of_memory, const std::string& what) {
                     group[i]->job->fail(out_of_memory ? Errc::overloaded : Errc::internal,
                                         out_of_memory ? "the device is out of memory" : what.c_str());
                   });
  }
}

/// A stream of a model that renders streams together: alone it is together with nobody.
class WindowStream : public TokenRenderer {
 public:
  std::vector<float> push(std::span<const std::int32_t> tokens, bool last) final {
    Job job{.stream = this, .tokens = tokens, .last = last};
    push_together({&job, 1});
    if (job.failure) throw ModelError(job.failure->detail);
    return std::move(job.samples);
  }
};

/// A window of one of the networks that a stream's frames go through: an item of run_windows() which the stream fills.
template <class Stream>
struct WindowPiece {
  TokenRenderer::Job* job;
  Stream* stream;
  Window window;
  bool sounds;       ///< of the network that makes samples
  std::int64_t per;  ///< numbers or rows that a frame becomes
  WindowShape shape{};
  at::Tensor rows{};  ///< [window.take * per, ..]

  void fill(const std::vector<at::Tensor>& inputs, std::int64_t row) const { stream->fill(*this, inputs, row); }
  void take(const at::Tensor& result) { rows = result.narrow(0, window.skip * per, window.take * per).clone(); }
};

/// Runs pieces, each of which its stream takes then, in their order.
template <class Piece>
void run_pieces(DeviceLanes::Held& lane, const WindowOptions& options, std::vector<Piece>& pieces) {
  run_windows(lane, options, pieces);
  for (const Piece& piece : pieces) {
    if (!piece.job->failure) piece.stream->take(piece);
  }
}

/// for_each_job() whose streams are known to be of one class.
template <class Stream, class Work>
void for_each_stream(std::span<TokenRenderer::Job> jobs, const Work& work) {
  for_each_job(jobs, [&](TokenRenderer::Job& job) { work(job, *static_cast<Stream*>(job.stream)); });
}

/// Numbers into a row of a float input.
inline void numbers_to_row(std::span<const float> from, const at::Tensor& input, std::int64_t row) {
  std::copy(from.begin(), from.end(), input.data_ptr<float>() + row * static_cast<std::int64_t>(from.size()));
}
/// Rows of `from` [n <= width, channels] into a row of a float input [rows, width, channels], zeros behind them.
void frames_to_row(const at::Tensor& from, const at::Tensor& input, std::int64_t row);
[[nodiscard]] std::vector<float> to_numbers(const at::Tensor& t);

}  // namespace tts
