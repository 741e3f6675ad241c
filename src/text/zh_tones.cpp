#include "src/text/zh_tones.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_set>
#include <utility>

#include "src/text/zh_pinyin.h"

namespace tts {
namespace {

using View = std::u32string_view;

// Words whose last syllable is neutral; words that look as if one were and have none; words that end in 儿 as part of
// the syllable before, and those where it is a syllable of its own.
constexpr std::u32string_view kNeutral =
    U"一辈 丈人 丈夫 上司 上头 下巴 下水 不在 不由 世故 东家 东西 两口 丧气 丫头 主意 买卖 事情 云彩 交情 亲家 "
    U"亲戚 人家 什么 介绍 休息 伙计 似的 位置 体面 作坊 佩服 使唤 便宜 倒腾 兄弟 先生 关系 养活 冒失 冤家 冤枉 "
    U"冷战 凉快 凑合 凤凰 出息 分析 利害 利索 利落 别扭 刺激 刺猬 前头 力气 功夫 动弹 动静 勤快 匀称 包涵 包袱 "
    U"千斤 厉害 厚道 口袋 叫唤 吆喝 合同 吉他 名堂 名字 后头 吓唬 含糊 告示 告诉 和尚 咕噜 咖喱 咳嗽 哆嗦 哈欠 "
    U"哑巴 唾沫 商量 喇叭 喇嘛 喉咙 喜欢 喽啰 嘀咕 嘟囔 嘱咐 嘴巴 困难 在乎 地方 地道 壮实 外甥 多么 多少 大人 "
    U"大夫 大意 大方 大爷 太阳 头发 女婿 奴才 妖精 妥当 妯娌 姐夫 姑娘 委屈 姥爷 娘家 婆家 媒人 媳妇 嫁妆 字号 "
    U"学生 学问 官司 实在 客气 家伙 寒碜 寡妇 对付 对头 将就 小伙 小气 少爷 尾巴 屁股 岁数 工夫 差事 巴掌 巴结 "
    U"师傅 师父 希罕 帐篷 帮手 干事 幸福 庄稼 应酬 开通 弄堂 弟兄 张罗 得罪 心思 志气 忙活 快活 念叨 念头 怎么 "
    U"思量 怪物 悟性 情形 惦记 意思 意识 懒得 戒指 扁担 扎实 扑腾 打发 打听 打扮 打点 打算 打量 扫帚 扫把 折腾 "
    U"护士 报复 抬举 拖沓 招呼 招牌 拨弄 拳头 拾掇 指头 指甲 挑剔 挖苦 提防 收成 收拾 故事 新鲜 时候 明白 暖和 "
    U"月亮 月饼 朋友 木匠 木头 本事 机灵 枇杷 枕头 架势 柴火 栅栏 核桃 棉花 棒槌 棺材 槟榔 模糊 欺负 正经 母亲 "
    U"比方 泥鳅 活泼 浪头 消息 清楚 温和 溜达 滑溜 漂亮 火候 灯笼 炊帚 点心 烂糊 烟筒 烧饼 热闹 照顾 熟悉 爱人 "
    U"父亲 爽快 牌楼 牙碜 牢骚 牲口 特务 状元 狐狸 玄乎 玫瑰 玻璃 琉璃 琢磨 琵琶 甘蔗 甜头 生意 畜生 疏忽 疙瘩 "
    U"疟疾 痛快 痢疾 白净 盘算 盘缠 相声 眉毛 眨巴 眯缝 眼睛 知识 石匠 石头 石榴 码头 砚台 祖宗 福气 秀才 秀气 "
    U"秧歌 称呼 稀罕 稳当 窗户 窝囊 窟窿 笑话 笑语 笤帚 答应 算盘 算计 篱笆 簸箕 粮食 精神 糊涂 糟蹋 糨糊 累赘 "
    U"红火 结实 编辑 罐头 罗嗦 翻腾 老太 老头 老婆 老实 老爷 耳朵 耷拉 耽搁 耽误 聪明 胡同 胡琴 胡萝 胭脂 胳膊 "
    U"能耐 脊梁 脑袋 脾气 膏药 自在 舌头 舒坦 舒服 芝麻 苍蝇 苗头 苗条 荒唐 荸荠 菩萨 萝卜 葡萄 葫芦 薄荷 蘑菇 "
    U"蚂蚱 蛤蟆 蜡烛 行当 行李 街坊 衙门 衣服 衣裳 补丁 裁缝 见识 规矩 计划 认识 记号 记性 讲究 豆腐 财主 费用 "
    U"趔趄 跟头 跳蚤 踏实 转悠 软和 过去 运气 这个 这么 连累 迷糊 造化 逻辑 道士 邋遢 那个 那么 部分 里头 里脊 "
    U"钥匙 铁匠 铃铛 铺盖 锄头 门道 闺女 阔气 队伍 难为 风筝 馄饨 馒头 首饰 马虎 骆驼 骨头 高粱 鸳鸯 麻利 麻烦";
constexpr std::u32string_view kNotNeutral =
    U"人人 以下 佼佼 冉冉 分子 卵子 原子 吵吵 哈哈 女子 娃哈哈 学子 家家户户 局地 干嘛 幺幺 恳恳 想想 打打 "
    U"攘攘 数数 整整 死死 熙熙 瓜子 电子 男子 留得 石子 算子 考考 耕地 花花草草 莘莘 莲子 落地 虎虎 袅袅 量子 "
    U"青青";
constexpr std::u32string_view kErhua = U"妥妥儿 媳妇儿 寻老礼儿 小院儿 撒欢儿 老汉儿 胡同儿 范儿";
constexpr std::u32string_view kNoErhua =
    U"一儿 为儿 乞儿 体弱儿 侄儿 侄孙儿 俺儿 可儿 女儿 妻儿 婴儿 婴幼儿 孙儿 孤儿 少儿 幼儿 应采儿 患儿 我儿 "
    U"护儿 拐儿 救儿 替儿 有儿 流浪儿 混血儿 狗儿 猪儿 猫儿 男儿 瞒儿 祖儿 红孩儿 美儿 聋儿 脑瘫儿 舫儿 花儿 "
    U"虐儿 虫儿 蜜雪儿 连体儿 马儿 鸟儿";
// Characters that Unicode calls numeric.
constexpr View kNumeric =
    U"一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零";

bool one_of(char32_t c, View set) {
  return set.find(c) != View::npos;
}
bool numeric(char32_t c) {
  return one_of(c, kNumeric);
}

std::unordered_set<View> words_of(View list) {
  std::unordered_set<View> words;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(U' '), list.size());
    words.insert(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return words;
}

bool is_neutral(View word) {
  static const std::unordered_set<View> words = words_of(kNeutral);
  return words.contains(word) || (word.size() > 2 && words.contains(word.substr(word.size() - 2)));
}
bool is_not_neutral(View word) {
  static const std::unordered_set<View> words = words_of(kNotNeutral);
  return words.contains(word);
}
bool is_erhua(View word) {
  static const std::unordered_set<View> words = words_of(kErhua);
  return words.contains(word);
}
bool is_no_erhua(View word) {
  static const std::unordered_set<View> words = words_of(kNoErhua);
  return words.contains(word);
}

void set_tone(ZhReading& reading, std::uint8_t tone) {
  if (reading.spoken()) reading.tone = tone;
}

void change_bu(View word, std::vector<ZhReading>& r) {
  if (word.size() == 3 && word[1] == U'不') {
    set_tone(r[1], 5);
    return;
  }
  for (std::size_t i = 0; i + 1 < word.size(); ++i) {
    if (word[i] == U'不' && r[i + 1].tone == 4) set_tone(r[i], 2);
  }
}

void change_yi(View word, std::vector<ZhReading>& r) {
  if (word.find(U'一') == View::npos) return;
  if (std::all_of(word.begin(), word.end(), numeric)) return;
  if (word.size() == 3 && word[1] == U'一' && word[0] == word[2]) {
    set_tone(r[1], 5);
    return;
  }
  if (word.starts_with(U"第一")) {
    set_tone(r[1], 1);
    return;
  }
  for (std::size_t i = 0; i + 1 < word.size(); ++i) {
    if (word[i] != U'一') continue;
    if (r[i + 1].tone == 4) {
      set_tone(r[i], 2);
    } else if (!one_of(word[i + 1], U",.?!")) {
      set_tone(r[i], 4);
    }
  }
}

void change_neutral(const ZhData& data, View word, std::string_view tag, bool reference, std::vector<ZhReading>& r) {
  const char kind = tag.empty() ? 'x' : tag.front();
  if ((kind == 'n' || kind == 'v' || kind == 'a') && !is_not_neutral(word)) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      if (word[i] == word[i - 1]) set_tone(r[i], 5);
    }
  }
  const char32_t last = word.back();
  const std::size_t ge = word.find(U'个');
  if (one_of(last, U"吧呢哈啊呐噻嘛吖嗨呐哦哒额滴哩哟喽啰耶喔诶") || one_of(last, U"的地得")) {
    set_tone(r.back(), 5);
  } else if (word.size() == 1 && one_of(last, U"了着过") && (tag == "ul" || tag == "uz" || tag == "ug")) {
    set_tone(r.back(), 5);
  } else if (word.size() > 1 && one_of(last, U"们子") && (tag == "r" || tag == "n") && !is_not_neutral(word)) {
    set_tone(r.back(), 5);
  } else if (word.size() > 1 && one_of(last, U"上下里") && (tag == "s" || tag == "l" || tag == "f")) {
    set_tone(r.back(), 5);
  } else if (word.size() > 1 && one_of(last, U"来去") && one_of(word[word.size() - 2], U"上下进出回过起开")) {
    set_tone(r.back(), 5);
  } else if ((ge != View::npos && ge >= 1 &&
              (numeric(word[ge - 1]) || one_of(word[ge - 1], U"几有两半多各整每做是"))) ||
             word == U"个") {
    set_tone(r[ge], 5);
  } else if (is_neutral(word)) {
    set_tone(r.back(), 5);
  }
  const ZhSplit split = split_word(data, word);
  if (is_neutral(split.first)) set_tone(r[split.first.size() - 1], 5);
  if (is_neutral(reference ? split.subword : split.second)) set_tone(r.back(), 5);
}

bool all_third(const std::vector<ZhReading>& r, std::size_t begin, std::size_t end) {
  return std::all_of(r.begin() + static_cast<std::ptrdiff_t>(begin), r.begin() + static_cast<std::ptrdiff_t>(end),
                     [](const ZhReading& reading) { return reading.tone == 3; });
}

void change_third(const ZhData& data, View word, std::vector<ZhReading>& r) {
  const std::size_t n = word.size();
  if (n == 2) {
    if (all_third(r, 0, 2)) set_tone(r[0], 2);
  } else if (n == 3) {
    const std::size_t split = split_word(data, word).first.size();
    if (all_third(r, 0, 3)) {
      if (split == 2) set_tone(r[0], 2);
      if (split == 1 || split == 2) set_tone(r[1], 2);
      return;
    }
    if (split == 2 && all_third(r, 0, 2)) set_tone(r[0], 2);
    if (n - split == 2 && all_third(r, split, n)) {
      set_tone(r[split], 2);
    } else if (split > 0 && split < n && !all_third(r, split, n) && r[split].tone == 3 && r[split - 1].tone == 3) {
      set_tone(r[split - 1], 2);
    }
  } else if (n == 4) {
    for (const std::size_t half : {0, 2}) {
      if (all_third(r, half, half + 2)) set_tone(r[half], 2);
    }
  }
}

void change_er(const ZhData& data, View word, std::string_view tag, std::vector<ZhReading>& r) {
  if (word.back() != U'儿' || !r.back().spoken() || data.syllable(r.back()).name != "er") return;
  if (r.back().tone == 1) r.back().tone = 2;
  if (!is_erhua(word) && (is_no_erhua(word) || tag == "a" || tag == "j" || tag == "nr")) return;
  if (r.back().tone != 2 && r.back().tone != 5) return;
  if (word.size() < 2 || is_no_erhua(word.substr(word.size() - 2)) || !r[word.size() - 2].spoken()) return;
  r.back().tone = r[word.size() - 2].tone;
}

}  // namespace

std::vector<ZhWord> join_for_tones(const ZhData& data, View text, std::vector<ZhWord> words) {
  const auto of = [text](const ZhWord& word) { return text.substr(word.begin, word.end - word.begin); };
  std::vector<ZhWord> out;

  // 不 goes with the word behind it.
  bool bu = false;
  for (ZhWord word : words) {
    if (bu) word.begin -= 1;
    bu = of(word) == U"不";
    if (!bu) out.push_back(word);
  }
  if (bu) out.push_back({words.back().end - 1, words.back().end, "d"});
  words = std::exchange(out, {});

  // 听 一 听 is one word, else 一 goes with what is behind it.
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!out.empty() && of(words[i]) == U"一" && i + 1 < words.size() && of(out.back()) == of(words[i + 1]) &&
        out.back().tag == "v" && words[i + 1].tag == "v") {
      out.back().end = words[i + 1].end;
      ++i;
    } else {
      out.push_back(words[i]);
    }
  }
  words = std::exchange(out, {});
  for (const ZhWord& word : words) {
    if (!out.empty() && of(out.back()) == U"一") {
      out.back().end = word.end;
    } else {
      out.push_back(word);
    }
  }
  words = std::exchange(out, {});

  for (const ZhWord& word : words) {
    if (!out.empty() && of(out.back()) == of(word)) {
      out.back().end = word.end;
    } else {
      out.push_back(word);
    }
  }
  words = std::exchange(out, {});

  // Two words, at most three characters together, all of third tones; then such whose neighbours are.
  for (const bool whole : {true, false}) {
    struct Thirds {
      bool all, first, last;
    };
    std::vector<Thirds> thirds;
    for (const ZhWord& word : words) {
      const std::vector<ZhReading> r = phrase_readings(data, of(word));
      thirds.push_back({all_third(r, 0, r.size()), r.front().tone == 3, r.back().tone == 3});
    }
    bool joined = false;
    for (std::size_t i = 0; i < words.size(); ++i) {
      const bool meet =
          i > 0 && !joined && (whole ? thirds[i - 1].all && thirds[i].all : thirds[i - 1].last && thirds[i].first);
      joined = false;
      if (meet) {
        const View before = of(words[i - 1]);
        const bool doubled = before.size() == 2 && before[0] == before[1];
        joined = !doubled && before.size() + of(words[i]).size() <= 3;
      }
      if (joined) {
        out.back().end = words[i].end;
      } else {
        out.push_back(words[i]);
      }
    }
    words = std::exchange(out, {});
  }

  for (const ZhWord& word : words) {
    if (!out.empty() && of(word) == U"儿") {
      out.back().end = word.end;
    } else {
      out.push_back(word);
    }
  }
  return out;
}

void change_tones(const ZhData& data, View word, std::string_view tag, bool reference,
                  std::vector<ZhReading>& readings) {
  if (word.empty()) return;
  change_bu(word, readings);
  change_yi(word, readings);
  change_neutral(data, word, tag, reference, readings);
  change_third(data, word, readings);
  change_er(data, word, tag, readings);
}

}  // namespace tts
