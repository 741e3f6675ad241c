#include "src/audio/ogg_opus.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <ogg/ogg.h>

#include "src/audio/wav.h"
#include "tests/audio/signals.h"
#include "tests/doctest.h"

TEST_SUITE("audio/ogg_opus") {
  using namespace tts;
  using namespace tts::testing;

  using Bytes = std::vector<std::uint8_t>;

  void append(Bytes & out, const Bytes& more) {
    out.insert(out.end(), more.begin(), more.end());
  }

  Bytes encode(const std::vector<float>& pcm, int rate_hz, std::size_t longest) {
    auto encoder = OggOpusEncoder::make(rate_hz, 48000).value();
    Bytes out;
    in_pieces(pcm, 7, longest, [&](std::span<const float> piece) { append(out, encoder.push(piece).value()); });
    append(out, encoder.finish().value());
    return out;
  }

  struct Page {
    std::int64_t granule;
    bool first, last;
    Bytes body;
  };

  std::vector<Page> pages_of(const Bytes& bytes) {
    ogg_sync_state sync;
    ogg_sync_init(&sync);
    char* buffer = ogg_sync_buffer(&sync, static_cast<long>(bytes.size()));
    std::copy(bytes.begin(), bytes.end(), buffer);
    ogg_sync_wrote(&sync, static_cast<long>(bytes.size()));
    std::vector<Page> pages;
    ogg_page page;
    while (ogg_sync_pageout(&sync, &page) == 1) {
      pages.push_back({ogg_page_granulepos(&page), ogg_page_bos(&page) != 0, ogg_page_eos(&page) != 0,
                       Bytes(page.body, page.body + page.body_len)});
    }
    ogg_sync_clear(&sync);
    return pages;
  }

  TEST_CASE("headers, positions and end are as RFC 7845 wants them") {
    const std::vector<float> pcm = speech_like(24000 * 2 + 123, 24000, 4);
    const std::vector<Page> pages = pages_of(encode(pcm, 24000, 999));
    REQUIRE(pages.size() > 4);
    CHECK(std::string(pages[0].body.begin(), pages[0].body.begin() + 8) == "OpusHead");
    REQUIRE(pages[0].body.size() == 19);
    CHECK(pages[0].first);
    CHECK(pages[0].body[8] == 1);
    CHECK(pages[0].body[9] == 1);
    CHECK((pages[0].body[10] | pages[0].body[11] << 8) == 312);
    CHECK((pages[0].body[12] | pages[0].body[13] << 8) == 24000);
    CHECK(std::string(pages[1].body.begin(), pages[1].body.begin() + 8) == "OpusTags");
    CHECK(pages[0].granule == 0);
    CHECK(pages[1].granule == 0);
    for (std::size_t i = 2; i + 1 < pages.size(); ++i) {
      CHECK(pages[i].granule % 960 == 0);
      CHECK(pages[i].granule > pages[i - 1].granule);
      CHECK_FALSE(pages[i].last);
    }
    CHECK(pages.back().last);
    CHECK(pages.back().granule == 312 + 2 * (24000 * 2 + 123));
    CHECK(pages.back().granule > pages[pages.size() - 2].granule);
  }

  TEST_CASE("libsndfile reads back the same length and sound") {
    for (const int rate_hz : {24000, 44100, 48000}) {
      for (const std::size_t extra : {0U, 1U, 500U}) {
        CAPTURE(rate_hz);
        CAPTURE(extra);
        const std::vector<float> pcm = speech_like(static_cast<std::size_t>(rate_hz) + extra, rate_hz, 4);
        const auto file = read_audio(encode(pcm, rate_hz, 4096));
        REQUIRE(file.has_value());
        // libsndfile decodes at the rate that the header names if Opus has it, else at 48 kHz.
        const std::vector<float> wanted = resample(pcm, rate_hz, file->rate_hz).value();
        CHECK(file->pcm.size() == wanted.size());
        double ab = 0;
        double aa = 0;
        double bb = 0;
        for (std::size_t i = 0; i < std::min(wanted.size(), file->pcm.size()); ++i) {
          ab += wanted[i] * file->pcm[i];
          aa += wanted[i] * wanted[i];
          bb += file->pcm[i] * file->pcm[i];
        }
        CHECK(ab / std::sqrt(aa * bb) > 0.9);
      }
    }
  }

  TEST_CASE("any chunking gives the same bytes") {
    const std::vector<float> pcm = speech_like(24000, 24000, 8);
    const Bytes whole = encode(pcm, 24000, pcm.size());
    for (const std::size_t longest : {1U, 100U, 480U, 7777U}) {
      CAPTURE(longest);
      CHECK(encode(pcm, 24000, longest) == whole);
    }
  }

  TEST_CASE("pages leave while the audio comes") {
    auto encoder = OggOpusEncoder::make(24000, 32000).value();
    CHECK(pages_of(encoder.push({}).value()).size() == 2);
    std::size_t pages = 0;
    for (int i = 0; i < 50; ++i) pages += pages_of(encoder.push(std::vector<float>(480)).value()).size();
    CHECK(pages >= 4);  // one per 200 ms
  }

  TEST_CASE("no audio is still a file") {
    const std::vector<Page> pages = pages_of(encode({}, 24000, 1));
    REQUIRE(pages.size() == 3);
    CHECK(pages.back().last);
    CHECK(pages.back().granule == 312);
  }
}
