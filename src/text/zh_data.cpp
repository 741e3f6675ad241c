#include "src/text/zh_data.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "src/text/phonemes.h"

namespace tts {

namespace {

constexpr std::string_view kMagic = "TTSZH001";

}  // namespace

/// Bytes from front to back. Reading past the end gives zeros and sets `short_of`.
class ZhData::Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] bool done() const noexcept { return at_ == bytes_.size(); }
  [[nodiscard]] bool short_of() const noexcept { return short_; }
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - at_; }

  std::string_view take(std::size_t n) {
    if (n > left()) {
      short_ = true;
      at_ = bytes_.size();
      return {};
    }
    at_ += n;
    return bytes_.substr(at_ - n, n);
  }
  std::uint64_t number(int n_bytes) {
    const std::string_view raw = take(static_cast<std::size_t>(n_bytes));
    std::uint64_t value = 0;
    for (std::size_t i = raw.size(); i-- > 0;) value = value << 8U | static_cast<unsigned char>(raw[i]);
    return value;
  }
  std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  double f64() { return std::bit_cast<double>(number(8)); }
  std::uint32_t varint() {
    std::uint32_t value = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
      const std::uint8_t byte = u8();
      value |= static_cast<std::uint32_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) break;
    }
    return value;
  }
  std::string text() { return std::string(take(u8())); }
  Reader section() { return Reader(take(u32())); }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
  bool short_ = false;
};

Result<ZhData> ZhData::open(const std::filesystem::path& file) {
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, file.string() + ": " + what}; };
  std::ifstream in(file, std::ios::binary);
  if (!in) return bad("cannot be opened");
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!bytes.starts_with(kMagic)) return bad("no data of the Chinese front end (want TTSZH001)");
  ZhData data;
  Reader reader(std::string_view(bytes).substr(kMagic.size()));
  const std::string fault = data.read(reader);
  if (!fault.empty()) return bad(fault);
  return data;
}

std::string ZhData::read(Reader& file) {
  Reader chars = file.section();
  constexpr std::size_t kChars = kLast - kFirst + 1;
  if (chars.left() != kChars * 2) return "wrong number of characters";
  rank_.assign(kChars, 0xFFFF);
  for (std::size_t i = 0; i < kChars; ++i) {
    const char32_t c = chars.u16();
    if (!is_han(c) || rank_[c - kFirst] != 0xFFFF) return "bad character " + std::to_string(i);
    rank_[c - kFirst] = static_cast<std::uint16_t>(i);
    alphabet_.push_back(c);
  }

  Reader syllables = file.section();
  syllables_.resize(syllables.u16());
  if (syllables_.empty() || syllables_.size() > 1000) return "bad number of syllables";
  for (Syllable& syllable : syllables_) {
    syllable.name = syllables.text();
    const std::string initial = syllables.text();
    const std::string final = syllables.text();
    const auto id = phoneme_id(initial);
    if (!id) return "unknown phoneme \"" + initial + "\"";
    syllable.initial = *id;
    for (std::size_t tone = 0; tone < 5; ++tone) {
      const auto toned = phoneme_id(final + static_cast<char>('1' + tone));
      if (!toned) return "unknown phoneme \"" + final + "1\"";
      syllable.final[tone] = *toned;
    }
  }
  if (syllables.short_of() || !syllables.done()) return "bad syllables";
  for (std::size_t i = 0; i < syllables_.size(); ++i) {
    syllable_index_.emplace(syllables_[i].name, static_cast<std::uint16_t>(i));
  }

  Reader readings = file.section();
  if (readings.left() != kChars * 2) return "wrong number of readings";
  for (std::size_t i = 0; i < kChars; ++i) {
    const std::uint16_t packed = readings.u16();
    if (packed == 0xFFFF) {
      readings_.emplace_back();
      continue;
    }
    const ZhReading reading{static_cast<std::uint16_t>(packed >> 3U), static_cast<std::uint8_t>(packed & 7U)};
    if (reading.syllable >= syllables_.size() || reading.tone < 1 || reading.tone > 5) return "bad reading";
    readings_.push_back(reading);
  }

  Reader head = file.section();
  tags_.resize(head.u8());
  if (tags_.size() >= kNoWord) return "too many tags";
  for (std::string& tag : tags_) tag = head.text();
  log_total_ = std::log(static_cast<double>(head.u32()));
  log_counts_.resize(head.u32() % 65536U);
  for (double& count : log_counts_) count = std::log(static_cast<double>(head.u32()));
  if (head.short_of() || !head.done()) return "bad tags or counts";

  for (const auto part : {&ZhData::read_trie, &ZhData::read_tagging, &ZhData::read_cutting}) {
    if (std::string fault = (this->*part)(file.section()); !fault.empty()) return fault;
  }
  for (auto* const table : {&simplified_, &reference_}) {
    Reader in = file.section();
    while (!in.done() && !in.short_of()) {
      const char32_t from = in.u16();
      (*table)[from] = in.u16();
    }
    if (in.short_of()) return "bad table of simplified characters";
  }
  Reader phrases = file.section();
  while (!phrases.done()) {
    std::u32string from(phrases.u8(), U'\0');
    std::u32string to = from;
    for (char32_t& c : from) c = phrases.u16();
    for (char32_t& c : to) c = phrases.u16();
    if (phrases.short_of() || from.empty()) return "bad traditional phrases";
    std::size_t& longest = phrase_length_[from.front()];
    longest = std::max(longest, from.size());
    phrases_.emplace(std::move(from), std::move(to));
  }
  if (file.short_of() || !file.done()) return "bad length";
  return {};
}

std::string ZhData::read_trie(Reader in) {
  const std::size_t n = in.u32();
  if (n > in.left() / 2) return "bad number of nodes";
  label_.assign(n + 1, 0);
  first_child_.assign(n + 2, 0);
  tag_.assign(n + 1, kNoWord);
  count_.assign(n + 1, 0);
  phrase_flags_.assign(n + 1, 0);
  std::vector<std::uint32_t> children(n + 1, 0);
  const auto fits = [this](ZhReading reading) {
    return reading.syllable < syllables_.size() && reading.tone >= 1 && reading.tone <= 5;
  };
  const auto overrides = [&](std::size_t count) {
    for (std::size_t k = 0; k < count; ++k) {
      const std::uint8_t place = in.u8();
      const std::uint16_t packed = in.u16();
      const ZhReading reading{static_cast<std::uint16_t>(packed >> 3U), static_cast<std::uint8_t>(packed & 7U)};
      if (!fits(reading) || place == 255) return false;
      over_.push_back({place, reading});
    }
    over_.push_back({255, {}});
    return true;
  };
  over_.push_back({255, {}});  // the empty list
  children[0] = in.varint();
  std::size_t next = 1;
  for (std::size_t parent = 0; parent <= n; ++parent) {
    if (next > n + 1) return "bad trie";
    first_child_[parent] = static_cast<std::uint32_t>(next);
    if (children[parent] > n + 1 - next) return "bad trie";
    std::uint32_t label = 0;
    for (std::uint32_t k = 0; k < children[parent]; ++k, ++next) {
      const std::uint32_t delta = in.varint();
      if ((k > 0 && delta == 0) || delta >= alphabet_.size() - label) return "bad character in the trie";
      label += delta;
      label_[next] = static_cast<std::uint16_t>(label);
      const std::uint8_t flags = in.u8();
      tag_[next] = flags & 63U;
      if (tag_[next] != kNoWord) {
        const std::uint32_t count = in.varint();
        if (tag_[next] >= tags_.size() || count >= log_counts_.size()) return "bad word";
        count_[next] = static_cast<std::uint16_t>(count);
      }
      if ((flags & 64U) != 0) children[next] = in.varint();
      if ((flags & 128U) == 0) continue;
      const std::uint8_t body = in.u8();
      std::pair<std::uint32_t, std::uint32_t> lists{0, 0};
      if ((body & 31U) != 0) {
        lists.first = static_cast<std::uint32_t>(over_.size());
        if (!overrides(body & 31U)) return "bad phrase";
      }
      if ((body & 128U) != 0) {
        lists.second = static_cast<std::uint32_t>(over_.size());
        if (!overrides(in.u8())) return "bad correction";
      }
      if (lists != std::pair<std::uint32_t, std::uint32_t>{0, 0}) at_.emplace(static_cast<Node>(next), lists);
      if ((body & 32U) != 0) phrase_flags_[next] |= kPhrase;
      if ((body & 64U) != 0) phrase_flags_[next] |= kCorrects;
    }
    if (in.short_of()) return "trie cut off";
  }
  if (next != n + 1 || !in.done()) return "bad trie";
  first_child_[n + 1] = static_cast<std::uint32_t>(next);
  for (std::size_t parent = n + 1; parent-- > 0;) {
    bool begins = (phrase_flags_[parent] & kPhrase) != 0;
    for (std::uint32_t k = first_child_[parent]; k < first_child_[parent + 1] && !begins; ++k) {
      begins = (phrase_flags_[k] & kBeginsPhrase) != 0;
    }
    if (begins) phrase_flags_[parent] |= kBeginsPhrase;
  }
  root_child_.assign(alphabet_.size(), 0);
  for (std::uint32_t k = first_child_[0]; k < first_child_[1]; ++k) root_child_[label_[k]] = k;
  return {};
}

std::string ZhData::read_tagging(Reader in) {
  std::unordered_map<std::string, std::uint8_t> index;
  for (std::size_t i = 0; i < tags_.size(); ++i) index.emplace(tags_[i], static_cast<std::uint8_t>(i));
  for (std::size_t i = 0; i < 256; ++i) {
    tagging_.letter[i] = static_cast<char>(in.u8());
    std::string tag = in.text();
    auto found = index.find(tag);
    if (found == index.end()) {
      if (tags_.size() >= 255) return "too many tags";
      found = index.emplace(tag, static_cast<std::uint8_t>(tags_.size())).first;
      tags_.push_back(std::move(tag));
    }
    tagging_.tag[i] = found->second;
    tagging_.start[i] = in.f64();
  }
  for (auto& next : tagging_.next) {
    next.resize(in.u16());
    for (Transition& to : next) {
      to.to = in.u8();
      to.value = in.f64();
    }
    if (in.short_of()) return "tagging model cut off";
  }
  const std::uint32_t n_values = in.u32();
  if (n_values > in.left() / 8) return "tagging model cut off";
  std::vector<double> values(n_values);
  for (double& value : values) value = in.f64();
  for (std::size_t rank = 0; rank < alphabet_.size(); ++rank) {
    emission_at_.push_back(static_cast<std::uint32_t>(emissions_.size()));
    for (std::uint32_t n = in.varint(); n > 0; --n) {
      const std::uint8_t state = in.u8();
      const std::uint16_t value = in.u16();
      if (in.short_of() || (value & 0x7FFFU) >= values.size()) return "bad emission";
      emissions_.push_back({state, value >= 0x8000, values[value & 0x7FFFU]});
    }
  }
  emission_at_.push_back(static_cast<std::uint32_t>(emissions_.size()));
  return in.done() && !in.short_of() ? std::string() : std::string("bad tagging model");
}

std::string ZhData::read_cutting(Reader in) {
  for (double& value : cutting_.start) value = in.f64();
  for (auto& row : cutting_.next) {
    for (double& value : row) value = in.f64();
  }
  const std::uint32_t n_values = in.u32();
  if (n_values > in.left() / 8) return "cutting model cut off";
  std::vector<double> values(n_values);
  for (double& value : values) value = in.f64();
  const std::array<double, 4> unknown{kMinFloat, kMinFloat, kMinFloat, kMinFloat};
  cut_emissions_.assign(alphabet_.size() + 1, unknown);
  for (std::size_t rank = 0; rank < alphabet_.size(); ++rank) {
    const std::uint8_t mask = in.u8();
    for (std::size_t state = 0; state < 4; ++state) {
      if ((mask >> state & 1U) == 0) continue;
      const std::uint16_t value = in.u16();
      if (value >= values.size()) return "bad emission";
      cut_emissions_[rank][state] = values[value];
    }
  }
  return in.done() && !in.short_of() ? std::string() : std::string("bad cutting model");
}

ZhData::Node ZhData::child(Node node, char32_t c) const noexcept {
  if (!is_han(c)) return 0;
  const std::uint16_t rank = rank_[c - kFirst];
  if (node == 0) return root_child_[rank];
  const auto begin = label_.begin() + first_child_[node];
  const auto end = label_.begin() + first_child_[node + 1];
  const auto found = std::lower_bound(begin, end, rank);
  return found != end && *found == rank ? static_cast<Node>(found - label_.begin()) : 0;
}

std::string_view ZhData::tag(Node node) const noexcept {
  return node != 0 && is_word(node) ? std::string_view(tags_[tag_[node]]) : std::string_view("x");
}

ZhData::Node ZhData::find(std::u32string_view text) const noexcept {
  Node node = 0;
  for (const char32_t c : text) {
    node = child(node, c);
    if (node == 0) break;
  }
  return node;
}

ZhReading ZhData::parse_reading(std::string_view pinyin) const {
  if (pinyin.size() < 2 || pinyin.back() < '1' || pinyin.back() > '5') return {};
  const auto found = syllable_index_.find(pinyin.substr(0, pinyin.size() - 1));
  if (found == syllable_index_.end()) return {};
  return {found->second, static_cast<std::uint8_t>(pinyin.back() - '0')};
}

ZhReading ZhData::reading(char32_t c) const noexcept {
  return is_han(c) ? readings_[rank_[c - kFirst]] : ZhReading{};
}

void ZhData::apply(std::uint32_t at, std::span<ZhReading> out) const {
  for (; over_[at].place != 255; ++at) {
    if (over_[at].place < out.size()) out[over_[at].place] = over_[at].reading;
  }
}

void ZhData::phrase_readings(Node node, std::u32string_view text, std::span<ZhReading> out) const {
  for (std::size_t i = 0; i < text.size(); ++i) out[i] = reading(text[i]);
  if (const auto found = at_.find(node); found != at_.end()) apply(found->second.first, out);
}

void ZhData::correction_readings(Node node, std::u32string_view text, std::span<ZhReading> out) const {
  phrase_readings(node, text, out);
  if (const auto found = at_.find(node); found != at_.end()) apply(found->second.second, out);
}

std::span<const ZhData::Emission> ZhData::emissions(char32_t c) const noexcept {
  if (!is_han(c)) return {};
  const std::uint16_t rank = rank_[c - kFirst];
  return std::span(emissions_).subspan(emission_at_[rank], emission_at_[rank + 1U] - emission_at_[rank]);
}

const std::array<double, 4>& ZhData::cut_emissions(char32_t c) const noexcept {
  return cut_emissions_[is_han(c) ? rank_[c - kFirst] : alphabet_.size()];
}

char32_t ZhData::simplified(char32_t c, bool reference) const noexcept {
  if (reference) {
    if (const auto found = reference_.find(c); found != reference_.end()) return found->second;
  }
  const auto found = simplified_.find(c);
  return found == simplified_.end() ? c : found->second;
}

std::size_t ZhData::simplified_phrase(std::u32string_view text, std::u32string_view& out) const {
  if (text.empty()) return 0;
  const auto longest = phrase_length_.find(text.front());
  if (longest == phrase_length_.end()) return 0;
  for (std::size_t length = std::min(longest->second, text.size()); length > 1; --length) {
    if (const auto found = phrases_.find(std::u32string(text.substr(0, length))); found != phrases_.end()) {
      out = found->second;
      return length;
    }
  }
  return 0;
}

}  // namespace tts
