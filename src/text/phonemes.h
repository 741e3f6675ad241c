#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tts {

/// Sizes of the phoneme inventories that the published weights were trained with. The first inventory is a prefix of
/// the second, so one table and one numbering serve both.
inline constexpr std::int32_t kPhonemesV1 = 322;
inline constexpr std::int32_t kPhonemesV2 = 732;

/// The v2 inventory in id order: Mandarin initials and toned finals, Japanese, ARPAbet with stress digits, pause and
/// punctuation symbols in code point order; then "[" and "]"; then Korean letters; then Cantonese ("Y" + jyutping
/// part).
[[nodiscard]] std::span<const std::string> phoneme_symbols();

/// Id of a symbol of the v2 inventory, case-sensitive ("AA" is a Mandarin initial, "aa" nothing). Ids below kPhonemesV1
/// mean the same in v1.
[[nodiscard]] std::optional<std::int32_t> phoneme_id(std::string_view symbol);

/// Symbol of an id in 0..731; "UNK" for any other number.
[[nodiscard]] std::string_view phoneme_symbol(std::int32_t id);

/// The ids as a network knows them that has the first `limit` of the inventory: UNK for the others.
[[nodiscard]] std::vector<std::int32_t> within_inventory(std::vector<std::int32_t> ids, std::int64_t limit);

/// True for the ids of . ! ? … , and -.
[[nodiscard]] bool is_punctuation(std::int32_t id);

}  // namespace tts
