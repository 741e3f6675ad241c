#include "src/text/fold.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uscript.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>
#include <algorithm>

#include "src/core/utf8.h"

namespace tts {
namespace {

struct Entry {
  UChar32 code;
  std::string_view text;  // "" drops the character, so that it does not part a word
};

// Sorted by code point. What is neither here nor reducible by NFKD becomes a space.
constexpr Entry kTable[] = {
    {0x00A0, " "},         {0x00A2, "\x8A"},     {0x00A3, "\x87"},    {0x00A5, "\x88"},    {0x00A7, "\x9B"},
    {0x00A9, "\x9C"},      {0x00AB, "\""},       {0x00AD, ""},        {0x00AE, " "},       {0x00B0, "\x85"},
    {0x00B1, "\x92"},      {0x00B2, "\x9D"},     {0x00B3, "\x9E"},    {0x00B4, "'"},       {0x00B5, "\x9A"},
    {0x00B9, " "},         {0x00BB, "\""},       {0x00C6, "AE"},      {0x00D0, "D"},       {0x00D7, "\x90"},
    {0x00D8, "O"},         {0x00DE, "Th"},       {0x00DF, "ss"},      {0x00E6, "ae"},      {0x00F0, "d"},
    {0x00F7, "\x91"},      {0x00F8, "o"},        {0x00FE, "th"},      {0x0110, "D"},       {0x0111, "d"},
    {0x0126, "H"},         {0x0127, "h"},        {0x0131, "i"},       {0x0141, "L"},       {0x0142, "l"},
    {0x014A, "Ng"},        {0x014B, "ng"},       {0x0152, "OE"},      {0x0153, "oe"},      {0x0166, "T"},
    {0x0167, "t"},         {0x018F, "E"},        {0x0192, "f"},       {0x0259, "e"},       {0x02BB, "'"},
    {0x02BC, "'"},         {0x0391, " alpha "},  {0x0392, " beta "},  {0x0393, " gamma "}, {0x0394, " delta "},
    {0x0395, " epsilon "}, {0x0396, " zeta "},   {0x0397, " eta "},   {0x0398, " theta "}, {0x0399, " iota "},
    {0x039A, " kappa "},   {0x039B, " lambda "}, {0x039C, " mu "},    {0x039D, " nu "},    {0x039E, " xi "},
    {0x039F, " omicron "}, {0x03A0, " pi "},     {0x03A1, " rho "},   {0x03A3, " sigma "}, {0x03A4, " tau "},
    {0x03A5, " upsilon "}, {0x03A6, " phi "},    {0x03A7, " chi "},   {0x03A8, " psi "},   {0x03A9, " omega "},
    {0x03B1, " alpha "},   {0x03B2, " beta "},   {0x03B3, " gamma "}, {0x03B4, " delta "}, {0x03B5, " epsilon "},
    {0x03B6, " zeta "},    {0x03B7, " eta "},    {0x03B8, " theta "}, {0x03B9, " iota "},  {0x03BA, " kappa "},
    {0x03BB, " lambda "},  {0x03BC, "\x9A"},     {0x03BD, " nu "},    {0x03BE, " xi "},    {0x03BF, " omicron "},
    {0x03C0, " pi "},      {0x03C1, " rho "},    {0x03C2, " sigma "}, {0x03C3, " sigma "}, {0x03C4, " tau "},
    {0x03C5, " upsilon "}, {0x03C6, " phi "},    {0x03C7, " chi "},   {0x03C8, " psi "},   {0x03C9, " omega "},
    {0x200B, ""},          {0x200C, ""},         {0x200D, ""},        {0x200E, ""},        {0x200F, ""},
    {0x2010, "-"},         {0x2011, "-"},        {0x2012, "\x81"},    {0x2013, "\x81"},    {0x2014, "\x82"},
    {0x2015, "\x82"},      {0x2018, "'"},        {0x2019, "'"},       {0x201A, "'"},       {0x201B, "'"},
    {0x201C, "\""},        {0x201D, "\""},       {0x201E, "\""},      {0x201F, "\""},      {0x2022, "*"},
    {0x2026, "\x84"},      {0x2028, "\n"},       {0x2029, "\n"},      {0x2030, "%"},       {0x2032, "'"},
    {0x2033, "\""},        {0x2039, "'"},        {0x203A, "'"},       {0x203C, "!"},       {0x203D, "?"},
    {0x2044, "/"},         {0x2047, "?"},        {0x2048, "?"},       {0x2049, "!"},       {0x2060, ""},
    {0x2070, " "},         {0x20A9, "\x8B"},     {0x20AC, "\x86"},    {0x20B9, "\x89"},    {0x20BF, "\x8C"},
    {0x2120, " "},         {0x2122, " "},        {0x2126, " ohm "},   {0x2190, ","},       {0x2192, "\x97"},
    {0x2212, "\x83"},      {0x2215, "/"},        {0x221A, "\x98"},    {0x221E, "\x99"},    {0x2248, "\x93"},
    {0x2260, "\x96"},      {0x2264, "\x94"},     {0x2265, "\x95"},    {0x22C5, "*"},       {0x2E3A, "\x82"},
    {0x2E3B, "\x82"},      {0x3001, ","},        {0x3002, "."},       {0xFE0E, ""},        {0xFE0F, ""},
    {0xFEFF, ""},
};

const Entry* find_entry(UChar32 code) {
  const auto* found = std::lower_bound(std::begin(kTable), std::end(kTable), code,
                                       [](const Entry& entry, UChar32 value) { return entry.code < value; });
  return found != std::end(kTable) && found->code == code ? found : nullptr;
}

bool is_mark(UChar32 code) {
  const auto type = u_charType(code);
  return type == U_NON_SPACING_MARK || type == U_ENCLOSING_MARK || type == U_COMBINING_SPACING_MARK;
}

// What one code point becomes; `after_digit` keeps "2½" apart as "2 1/2".
std::string reduce(UChar32 code, bool after_digit) {
  if (code == '\n') return "\n";
  if (code < 0x20 || code == 0x7F) return " ";
  if (code < 0x7F) return std::string(1, static_cast<char>(code));
  if (const Entry* entry = find_entry(code)) return std::string(entry->text);
  if (is_mark(code)) return "";
  if (const std::int32_t digit = u_charDigitValue(code); digit >= 0 && u_charType(code) == U_DECIMAL_DIGIT_NUMBER) {
    return std::string(1, static_cast<char>('0' + digit));
  }
  UErrorCode status = U_ZERO_ERROR;
  const UNormalizer2* nfkd = unorm2_getNFKDInstance(&status);
  UChar parts[32];
  const std::int32_t n = U_SUCCESS(status) ? unorm2_getDecomposition(nfkd, code, parts, 32, &status) : -1;
  if (n <= 0 || U_FAILURE(status)) return " ";
  if (u_charType(code) == U_OTHER_NUMBER && u_getIntPropertyValue(code, UCHAR_DECOMPOSITION_TYPE) == U_DT_SUPER)
    return " ";
  std::string result;
  if (u_getIntPropertyValue(code, UCHAR_DECOMPOSITION_TYPE) == U_DT_FRACTION && after_digit) result += ' ';
  for (std::int32_t i = 0; i < n;) {
    UChar32 part = 0;
    U16_NEXT(parts, i, n, part);
    if (is_mark(part)) continue;
    if (part < 0x7F && part >= 0x20) {
      result += static_cast<char>(part);
    } else if (const Entry* entry = find_entry(part)) {
      result += entry->text;
    } else {
      return " ";
    }
  }
  return result;
}

}  // namespace

std::string_view Folded::slice(std::size_t from, std::size_t to) const {
  const std::size_t last = byte_at.size() - 1;
  from = std::min(from, last);
  to = std::clamp(to, from, last);
  return std::string_view(input).substr(byte_at[from], byte_at[to] - byte_at[from]);
}

Folded fold(std::string_view text) {
  Folded folded;
  folded.input = utf8::to_valid(text);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(folded.input.data());
  const std::size_t size = folded.input.size();
  folded.text.reserve(size);
  folded.start.reserve(size);
  folded.end.reserve(size);
  folded.byte_at.reserve(size + 1);
  std::size_t at = 0;
  std::uint32_t position = 0;
  while (at < size) {
    folded.byte_at.push_back(static_cast<std::uint32_t>(at));
    UChar32 code = 0;
    U8_NEXT_UNSAFE(bytes, at, code);
    const bool after_digit = !folded.text.empty() && folded.text.back() >= '0' && folded.text.back() <= '9';
    const std::string reduced = reduce(code, after_digit);
    // A dropped character (a combining accent, a joiner) belongs to the one before it.
    if (reduced.empty() && !folded.end.empty()) folded.end.back() = position + 1;
    for (const char c : reduced) {
      folded.text += c;
      folded.start.push_back(position);
      folded.end.push_back(position + 1);
    }
    ++position;
  }
  folded.byte_at.push_back(static_cast<std::uint32_t>(size));
  return folded;
}

}  // namespace tts
