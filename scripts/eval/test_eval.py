"""Tests of the pure functions: python -m unittest discover -s scripts/eval"""
import pathlib
import types
import unittest

import numpy as np

import asr
import prosody
import references
import repeats
import run
import spectrogram
import streamed
import teacher_speech
import wording
import wording_zh

RATE_HZ = 24000


def tone(seconds, hz=200.0, level=0.3, rate_hz=RATE_HZ):
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def voiced(seconds, rng, rate_hz=RATE_HZ):
    """A buzzy vowel with a little noise, the hard case for a click detector: 120 pulses a second through two resonances."""
    from scipy import signal

    pulses = np.zeros(round(seconds * rate_hz))
    pulses[:: rate_hz // 120] = 1.0
    for hz, width in ((600, 80), (1800, 120)):
        r = np.exp(-np.pi * width / rate_hz)
        pulses = signal.lfilter([1 - r], [1, -2 * r * np.cos(2 * np.pi * hz / rate_hz), r * r], pulses)
    return 0.4 * pulses / np.abs(pulses).max() + 1e-3 * rng.standard_normal(len(pulses))


class Streamed(unittest.TestCase):
    def test_pieces_are_the_text(self):
        import random

        text = "你好，hello there."
        for seed in range(20):
            got = streamed.pieces(text, random.Random(seed))
            self.assertEqual("".join(got), text)
            self.assertTrue(all(1 <= len(p) <= 6 for p in got))

    def test_frames_follow_one_another(self):
        frame = lambda seq, at, samples, kind=2: streamed.HEADER.pack(1, kind, 0, 7, seq, at) + np.array(samples, "<i2").tobytes()
        take = streamed.Take()
        take.add(frame(0, 0, [1, -2]))
        take.add(frame(1, 2, [3]))
        self.assertEqual(take.wave().tolist(), [1, -2, 3])
        for wrong in (frame(3, 3, [0]), frame(2, 4, [0]), frame(2, 3, [0], kind=1)):
            with self.assertRaises(ValueError):
                take.add(wrong)

    def test_only_silence_may_follow(self):
        whole = np.array([1, 2, 3], np.int16)
        self.assertTrue(streamed.same(whole, whole) and streamed.same(np.r_[whole, np.zeros(480, np.int16)], whole))
        for other in (np.array([1, 2, 4]), whole[:2], np.r_[whole, 0, 1], np.r_[whole, np.zeros(481, np.int16)]):
            self.assertFalse(streamed.same(other, whole))


class Wording(unittest.TestCase):
    def test_numbers(self):
        for written, spoken in {
            "0": "zero", "7": "seven", "21": "twenty one", "100": "one hundred", "221": "two hundred twenty one",
            "1,234": "one thousand two hundred thirty four", "1969": "nineteen sixty nine", "1905": "nineteen oh five",
            "1900": "nineteen hundred", "2005": "two thousand five", "2024": "twenty twenty four", "2.3": "two point three",
            "75%": "seventy five percent", "75 %": "seventy five percent", "$400": "four hundred dollars",
            "$1": "one dollar", "$12.50": "twelve dollars fifty cents", "$3 million": "three million dollars",
            "3:30": "three thirty", "6:05 p.m.": "six oh five pm", "7 pm": "seven pm", "March 14": "march fourteenth",
            "the 3rd": "the third", "007": "zero zero seven", "5:00": "five oclock", "1000000": "one million",
        }.items():
            self.assertEqual(wording.normalise(written), spoken, written)

    def test_written_and_spoken_forms_agree(self):
        for a, b in (("I'm late", "i am late."), ("can't", "cannot"), ("two hundred and ten", "210"), ("OK, Mr. Smith", "okay mister smith"),
                     ("twelve dollars and fifty cents", "$12.50"), ("café", "cafe"), ("it’s", "it's"), ("nineteen eighty four", "1984"),
                     ("two thousand and ten", "2010"), ("twenty twenty four", "2024"), ("two thousand five", "2005"),
                     ("Let's go", "let us go"), ("All right", "alright"), ("[Music] Hello", "hello"), ("a half-open door", "a half open door")):
            self.assertEqual(wording.normalise(a), wording.normalise(b), (a, b))

    def test_chinese_digits_are_what_is_nearest_to_the_text(self):
        for text, heard in (("他出生于一九八六年十月。", "他出生於1986年10月"), ("这座桥全长一千二百米。", "這座橋全長1200米"), ("全长一千二百米", "全长1,200米"), ("圆周率大约是三点一四", "圓周率大約是3.14"),
                            ("后四位是零六三九", "後4位是0639"), ("两个人", "2个人"), ("两百个", "200個"), ("百分之二十八", "28%"), ("五点半关门", "5:30關門"), ("八点零五分", "8:05"), ("打幺幺零", "打110"),
                            ("看着他", "看著他"), ("著名的", "著名的"), ("今晚八点 live", "今晚8点Live!")):
            self.assertEqual(wording_zh.compare(text, heard)["errors"], 0, (text, heard))
            self.assertEqual(wording_zh.compare(text, heard, True)["errors"], 0, (text, heard))

    def test_chinese_errors_are_counted_by_syllables(self):
        row = wording_zh.compare("太阳落山以后", "太羊落上3山")
        self.assertEqual((len(row["reference"]), row["errors"]), (6, 3))                     # shang san shan: of them one is right
        self.assertEqual(wording_zh.compare("我买书", "我卖书", True)["errors"], 1)
        self.assertEqual(wording_zh.compare("我买书", "我卖书")["errors"], 0)
        self.assertEqual([f["kind"] for f in repeats.word_faults(wording_zh.compare("今天天气很好", "今天很好"))], ["skip"])
        self.assertEqual(wording_zh.compare("三个", "5个")["errors"], 1)
        self.assertLessEqual(len(wording_zh.readings(" ".join(["1234"] * 9))), wording_zh.MOST_READINGS)

    def test_different_words_stay_different(self):
        for a, b in (("fifteen", "fifty"), ("he can", "he can't"), ("salt and pepper", "salt pepper"), ("one hundred", "two hundred"),
                     ("dogs", "dog"), ("her", "he")):
            self.assertNotEqual(wording.normalise(a), wording.normalise(b))

    def test_ordinals(self):
        self.assertEqual([wording.ordinal(n) for n in (1, 2, 12, 20, 31, 100)],
                         ["first", "second", "twelfth", "twentieth", "thirty first", "one hundredth"])

    def test_compounds(self):
        self.assertEqual(wording.join_compounds("the foot bridge".split(), "the footbridge".split())[0], ["the", "footbridge"])
        self.assertEqual(wording.join_compounds("the footbridge".split(), "the foot bridge".split())[1], ["the", "footbridge"])
        self.assertEqual(wording.join_compounds("a part".split(), "a part".split()), (["a", "part"], ["a", "part"]))

    def test_sentences_file(self):
        sentences = asr.read_sentences(pathlib.Path(__file__).with_name("sentences_en.txt"))
        self.assertGreaterEqual(len(sentences), 100)
        self.assertEqual(len(set(map(wording.normalise, sentences))), len(sentences))
        self.assertTrue(all(wording.normalise(s) for s in sentences))


class Asr(unittest.TestCase):
    def test_log_mel_shape_and_range(self):
        mel = asr.log_mel(tone(1.0, 440, rate_hz=asr.RATE_HZ), np.ones((80, 201), np.float32) / 201)
        self.assertEqual(mel.shape, (80, 3000))
        self.assertLessEqual(mel.max() - mel.min(), 2.0 + 1e-6)        # clamped to 8 decades, divided by 4

    def test_log_mel_follows_the_tone(self):
        filters = np.eye(201, dtype=np.float32)[:80]                    # one filter a bin of 40 Hz
        mel = asr.log_mel(tone(2.0, 1200, rate_hz=asr.RATE_HZ), filters)
        self.assertTrue((mel[:, 20:180].argmax(axis=0) == 30).all())

    def test_score(self):
        result = asr.score(["The cat sat here.", "I have $5."], ["the cat sat", "I've five dollars"])
        self.assertEqual((result["words"], result["deletions"], result["substitutions"], result["insertions"]), (8, 1, 0, 0))
        self.assertAlmostEqual(result["wer"], 1 / 8)
        self.assertEqual([r["errors"] for r in result["rows"]], [1, 0])

    def test_missing_recording_is_all_wrong(self):
        self.assertEqual(asr.score(["one two three"], [""])["wer"], 1.0)


class Repeats(unittest.TestCase):
    def faults(self, text, heard):
        return [(f["kind"], f["words"]) for f in repeats.word_faults(asr.score([text], [heard])["rows"][0])]

    def test_word_faults(self):
        text = "we will meet at the station tomorrow"
        self.assertEqual(self.faults(text, text), [])
        self.assertEqual(self.faults(text, "we will the station tomorrow"), [("skip", "meet at")])
        self.assertEqual(self.faults(text, "we will meet at the"), [("truncated", "station tomorrow")])
        self.assertEqual(self.faults(text, "we will meet at the at the station tomorrow")[0][0], "repeat")
        self.assertEqual(self.faults(text, text + " tomorrow"), [("repeat", "tomorrow")])
        self.assertEqual(self.faults(text, text + " blue cheese"), [("babble", "blue cheese")])
        self.assertEqual(self.faults(text, "we will eat at the station tomorrow"), [])

    def test_pace(self):
        lengths = list(range(10, 60))
        seconds = [0.4 + 0.06 * n for n in lengths]
        self.assertEqual(repeats.pace_outliers(seconds, lengths)[0], [])
        seconds[7] *= 2
        seconds[30] *= 0.4
        self.assertEqual(repeats.pace_outliers(seconds, lengths)[0], [7, 30])
        self.assertEqual(repeats.pace_outliers([1.0, 1.0], [5, 5])[0], [])

    def test_clicks_found(self):
        rng = np.random.default_rng(1)
        clean = voiced(2.0, rng)
        self.assertEqual(repeats.clicks(clean, RATE_HZ), [])
        spike, step, lost = clean.copy(), clean.copy(), clean.copy()
        spike[20000] += 0.2
        step[30000:] += 0.15 * np.exp(-np.arange(len(step) - 30000) / 2400)    # a jump that dies away in 100 ms
        self.assertEqual([round(t, 2) for t in repeats.clicks(spike, RATE_HZ)], [0.83])
        self.assertEqual([round(t, 2) for t in repeats.clicks(step, RATE_HZ)], [1.25])
        lost = tone(1.0) * np.hanning(RATE_HZ)                         # a tone with three quarters of a period cut out
        lost = np.concatenate([lost[:12010], lost[12100:]])
        self.assertEqual(len(repeats.clicks(lost, RATE_HZ)), 1)

    def test_clicks_not_in_noise_or_bursts(self):
        rng = np.random.default_rng(2)
        noise = 0.1 * rng.standard_normal(RATE_HZ)
        self.assertEqual(repeats.clicks(noise, RATE_HZ), [])
        burst = 1e-4 * rng.standard_normal(RATE_HZ)                    # a stop: 40 ms of decaying noise out of silence
        burst[9000:9960] += 0.1 * rng.standard_normal(960) * np.exp(-np.arange(960) / 400)
        self.assertEqual(repeats.clicks(burst, RATE_HZ), [])

    def test_silence(self):
        wave = np.concatenate([np.zeros(RATE_HZ // 2), tone(1.0), np.zeros(RATE_HZ), tone(0.5), np.zeros(RATE_HZ // 4)])
        lead, trail = repeats.silence_ends(wave, RATE_HZ)
        self.assertAlmostEqual(lead, 0.5, delta=0.02)
        self.assertAlmostEqual(trail, 0.25, delta=0.02)
        self.assertAlmostEqual(repeats.longest_pause(wave, RATE_HZ), 1.0, delta=0.03)
        self.assertEqual(repeats.silence_ends(np.zeros(RATE_HZ), RATE_HZ), (1.0, 0.0))

    def test_loudness(self):
        for rate_hz in (16000, 24000, 48000):                         # EBU Tech 3341: 997 Hz at full scale, one channel
            wave = np.sin(2 * np.pi * 997 * np.arange(4 * rate_hz) / rate_hz)
            self.assertAlmostEqual(repeats.loudness_lufs(wave, rate_hz), -3.01, delta=0.05)
            self.assertAlmostEqual(repeats.loudness_lufs(0.1 * wave, rate_hz), -23.01, delta=0.05)
            gated = np.concatenate([wave, np.zeros(4 * rate_hz)])
            self.assertAlmostEqual(repeats.loudness_lufs(gated, rate_hz), -3.1, delta=0.2)
        self.assertEqual(repeats.loudness_lufs(np.zeros(RATE_HZ), RATE_HZ), float("-inf"))

    def test_k_weighting_matches_the_standard(self):
        shelf, high = repeats.k_weighting(48000)
        np.testing.assert_allclose(shelf, [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585],
                                   atol=1e-8)
        np.testing.assert_allclose(high, [1, -2, 1, 1, -1.99004745483398, 0.99007225036621], atol=1e-8)

    def test_frame_rate_tone(self):
        rng = np.random.default_rng(3)
        noise = 0.05 * rng.standard_normal(8 * RATE_HZ)
        self.assertLess(abs(repeats.frame_rate_tone_db([noise], RATE_HZ)), 1.0)
        noise[::256] += 0.5                                           # a pulse each frame
        self.assertGreater(repeats.frame_rate_tone_db([noise], RATE_HZ), 6.0)
        self.assertIsNone(repeats.frame_rate_tone_db([np.zeros(100)], RATE_HZ))

    def test_empty_recording(self):
        m = repeats.measure(np.zeros(0), RATE_HZ)
        self.assertEqual((m["seconds"], m["clicks"], m["peak"]), (0.0, [], 0.0))


class Teacher(unittest.TestCase):
    WORDS = {"the": ["DH", "AH0"], "apple": ["AE1", "P", "AH0", "L"], "foot": ["F", "UH1", "T"], "bridge": ["B", "R", "IH1", "JH"],
               "water": ["W", "AO1", "T", "ER0"], "two": ["T", "UW1"], "x": ["EH1", "K", "S"]}
    LEXICON = types.SimpleNamespace(words=WORDS)

    def test_phonemes(self):
        say = lambda text: "".join(s for _, s in teacher_speech.sequence(text, self.LEXICON) or [])
        self.assertEqual(say("The apple"), "ði ˈæpəl.")
        self.assertEqual(say("the footbridge!"), "ðə fˈʊt bɹˈɪʤ!")
        self.assertEqual(say("2, water?"), "tˈu, wˈɔTəɹ?")
        self.assertEqual(say("xx"), "ˈɛks ˈɛks.")
        self.assertEqual(say("..."), "")
        self.assertEqual(say(""), "")


class Table(unittest.TestCase):
    def test_markdown(self):
        table = run.to_markdown({"starter": dict(wer=0.1234, skips=2), "teacher": dict(wer=None)})
        self.assertIn("| word error (WER) | 12.3 % | n/a |", table)
        self.assertIn("| skips of two or more words | 2 | n/a |", table)


class Prosody(unittest.TestCase):
    def test_pauses_are_inner_silences_of_some_length(self):
        quiet = lambda s: np.zeros(round(s * RATE_HZ))
        wave = np.concatenate([quiet(0.3), tone(0.4), quiet(0.2), tone(0.4), quiet(0.04), tone(0.3), quiet(0.12), tone(0.2), quiet(0.5)])
        self.assertEqual([round(p, 2) for p in prosody.pauses(wave, RATE_HZ)], [0.2, 0.12])
        self.assertEqual(prosody.pauses(quiet(1), RATE_HZ), [])

    def test_final_height(self):
        glide = lambda start, end: np.sin(2 * np.pi * np.cumsum(np.concatenate([np.full(RATE_HZ, start), np.full(RATE_HZ // 2, end)])) / RATE_HZ)
        self.assertAlmostEqual(prosody.final_height(glide(150.0, 200.0), RATE_HZ), 12 * np.log2(200 / 150), delta=0.2)
        self.assertAlmostEqual(prosody.final_height(glide(150.0, 120.0), RATE_HZ), 12 * np.log2(120 / 150), delta=0.2)
        self.assertTrue(np.isnan(prosody.final_height(np.zeros(RATE_HZ), RATE_HZ)))

    def test_summary(self):
        got = prosody.summary([4.0, -1.0, float("nan")], [-3.0, 1.0, -2.0], [[0.2], [0.3, 0.1], []], [1, 1, 2], [[], [0.1]])
        self.assertEqual((got["pairs"], got["questions_higher"], got["commas"], got["commas_with_pause"]), (2, 0.5, 4, 0.5))
        self.assertEqual((got["pause_median_s"], got["pauses_per_plain_sentence"]), (0.2, 0.5))


class References(unittest.TestCase):
    def test_the_first_take_that_serves_is_cloned_and_another_compared_with(self):
        takes = [dict(wave=np.zeros(int(s * references.RATE_HZ))) for s in (2.5, 12.0, 4.0, 1.0)]
        first, other = references.chosen(takes)
        self.assertIs(first, takes[2])
        self.assertIs(other, takes[0])

    def test_a_speaker_without_two_is_left_out(self):
        self.assertIsNone(references.chosen([dict(wave=np.zeros(references.RATE_HZ * 4))]))
        self.assertIsNone(references.chosen([dict(wave=np.zeros(references.RATE_HZ * 2))] * 2))


class Spectrogram(unittest.TestCase):
    def test_peak(self):
        db = spectrogram.spectrogram_db(tone(0.5, 3000))
        self.assertEqual(db.max(), 0)
        self.assertEqual(int(db[:, 10].argmax()), 128)                 # 3000 Hz / (24000 / 1024)
        self.assertEqual(spectrogram.spectrogram_db(np.zeros(10)).shape[0], 513)


if __name__ == "__main__":
    unittest.main()
