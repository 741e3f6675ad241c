#!/usr/bin/env python3
"""Sentences for frontend_agreement.py: written ones, and patterns filled with names, numbers, dates and units.

    scripts/eval/frontend_sentences.py zh|en|mixed COUNT [SEED]

The same seed gives the same sentences. All of them were written for this project and may be used like the rest of it.
"""
import itertools
import pathlib
import random
import sys

WRITTEN_ZH = """
这座城市的夜景真漂亮，灯光一直亮到天亮。
他长大以后想当一名校长。
银行门口排着长长的队伍，没有一个人插队。
音乐响起来的时候，大家都很快乐。
这件事很重要，请你再重复一遍。
我还没有把钱还给他。
她觉得困了，就回房间睡觉去了。
这个都市里到处都是高楼大厦。
他跑得很快，必须得有人跟上才行。
为了这次演出，她成为了团里最忙的人。
当时他把这句话当作了玩笑。
数学老师让我们数一数教室里有多少把椅子。
放假的时候，没人能分清那幅画的真假。
这里的水果又便宜又新鲜，买菜也很方便。
记者去调查这次调整的原因。
他写的传记里有许多美丽的传说。
她一边弹琴一边讲子弹壳的故事。
我的曾祖父曾经在海上生活了二十年。
朝阳从东边升起来，照在朝南的窗户上。
这两份报告差不多，只是数字有些参差不齐。
他转身就走，在门口转了三圈才找到路。
飞机降落以后，敌人已经投降了。
他冲着我喊了一声，就向前冲锋了。
椅子倒下了，杯子里的水也倒了一地。
把衣服洗干净以后，我们再去干活。
更新以后的系统更加稳定了。
这个好人有一个特别的爱好，就是收集旧书。
他们喝完水，又为台上的演员喝彩。
和平的日子里，春天的风也很暖和。
房间里的灯间接影响了拍照的效果。
尽管他已经尽力了，结果还是不太理想。
看守仓库的老人看见了一只小狐狸。
空气里有一种说不出来的味道，箱子里却是空的。
这孩子总是丢三落四的，学习也落后了。
洪水淹没了田地，幸好没有人受伤。
天气闷热，教室里的气氛也有些沉闷。
他照着这个模样做了一个船的模型。
他宁可一个人走，也不愿意打破这份宁静。
店铺还没有开门，妈妈已经把床铺好了。
一切准备好以后，请把西瓜切开。
吃完晚饭，我们出去散步，头发都被风吹散了。
少年时代的朋友，现在只剩下少数几个了。
她舍不得离开住了四年的宿舍。
省钱当然好，但是你也应该反省一下。
花园里的花盛开了，奶奶在厨房里盛饭。
他似乎明白了什么，笑得像个孩子似的。
这次挑战以前，我们要先挑选三名队员。
我发现你的头发变长了。
听到这个消息，大家都兴奋得跳了起来。
他的手流血了，医生给他检查了血液。
老师要求我们明天早上七点到学校。
这种技术应该得到更广泛的应用。
这辆卡车的载重是五吨，去年就有记载。
他扎实的基本功让人佩服，包扎伤口也很熟练。
别着急，我看着火呢，不会着火的。
正月里，人们互相拜年，这是正确的习惯。
院子里只有一只小猫。
他中奖了，奖品就放在桌子中间。
春天是种树的好时候，种子已经发芽了。
机器转动起来了，声音很大。
一个人住在山上，一天只吃两顿饭。
第一次见面，他就一直看着我。
不要担心，这不是什么大不了的事。
他不高兴，也不说话，就不停地走来走去。
让我试一试，看一看这到底是怎么一回事。
这本书我看不懂，你能给我讲一讲吗？
你好，请问洗手间在哪里？
我也很想买两把雨伞。
老虎、小狗和小马都跑到了草场里。
请你给我五百米左右的绳子。
我想你可以早点儿起来跑跑步。
这儿有好几种水果，你想吃哪一种？
小孩儿们在胡同儿里玩儿得很开心。
他一会儿说冷，一会儿说热。
花儿开了，鸟儿也飞回来了。
她女儿在幼儿园里画了一朵花儿。
这点儿小事，没必要一个劲儿地说。
爸爸妈妈，爷爷奶奶，哥哥姐姐，都来了。
你看看这个，再想想那个，慢慢来。
桌子上放着葡萄、石榴和一盘饺子。
他们的事情我们都清楚，不用再打听了。
天上下着大雨，地下的车库里进了水。
把门打开，让客人进来坐下。
你过来，我出去，他上去，她下来。
这个世界上没有免费的午餐。
湖泊里的水很清，能看见水底的石头。
他说服了所有的人，终于通过了这个方案。
地壳的运动会引起地震。
电影里，哪吒闹海的故事最有意思。
他颤抖着拿起笔，签了自己的名字。
刹车失灵了，大厦前面的人都往两边跑。
朝鲜半岛的冬天非常冷。
他的品行很好，大家都愿意和他一起旅行。
这位中医大夫开的药很有效。
奶奶做的咖喱饭特别香。
曝光以后，这家公司的股票马上下跌。
他把被子铺在柏树下面，晒了一整天。
眼看就要下雨了，快把衣裳收进来。
这么晚了，你怎么还不睡？
谁也不知道他什么时候回来。
如果明天不下雨，我们就去爬长城。
科学家发现，海洋里的塑料越来越多。
人工智能正在改变我们的生活方式。
请系好安全带，飞机马上就要起飞了。
会议推迟到下个星期三下午举行。
对不起，您拨打的电话正在通话中。
这首歌的旋律优美，歌词也写得很好。
学好一门语言，需要长时间的积累。
他从小就喜欢下象棋，现在已经是大师了。
妈妈说：“吃饭以前要先洗手。”
《红楼梦》是中国古典小说的代表作。
“你怎么来了？”她惊讶地问。
哎呀，我的钥匙找不着了！
嗯，我知道了，谢谢你。
哈哈，这个笑话太好笑了！
唉，又下雨了……
啊，原来是这样啊！
快点儿吧，要迟到了！
他姓单，是这家单位的领导。
仇先生和解先生在区里开会。
曾国藩是清朝的重要人物。
西藏的天空很蓝，宝藏就藏在山里。
重庆的火锅又麻又辣。
厦门大学的校园非常美丽。
六安的茶叶和蚌埠的小吃都很有名。
这个会计很能干，开会的时候总是坐在角落里。
他一个角色一个角色地演，一点儿也不累。
劲敌来了，大家都使劲地鼓掌。
他压根儿就没想到会是这个样子。
我和他和了一把牌，和面的事就交给你了。
晕车的人请坐到前面，别晕过去了。
这块地的面积是多少亩，谁也说不清楚。
衣服上的扣子掉了，他只好扣上另外一颗。
那是一个晴朗的早晨，鸽哨声伴着起床号音。
远处传来了一阵悠扬的笛声。
风把窗户吹开了，雨水打湿了地板。
我们一边喝茶，一边聊着过去的事情。
勤奋的人总能找到属于自己的机会。
学校里有一个很大的操场，操场旁边是图书馆。
晚上九点以后，街道上渐渐安静下来。
请把这封信交给李老师，谢谢。
别人笑我太疯癫，我笑他人看不穿。
这里的冬天不太冷，夏天也不太热。
孩子们把雪堆成了一个雪人，还给它戴上了帽子。
"""

SURNAMES_ZH = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
GIVEN_ZH = "伟芳娜秀英敏静丽强磊军洋勇艳杰涛明超兰霞平刚桂华红玉国建文志辉力建永健世广志义兴良海山仁波宁贵福生龙元全国胜学祥才发武新利清飞彬富顺信子昌成康星光天达安岩中茂进林有坚和彪博诚先敬震振壮会思群豪心邦承乐绍功松善厚庆磊民友裕河哲江超浩亮政谦亨奇固之轮翰朗伯宏言若鸣朋斌梁栋维启克伦翔旭鹏泽晨辰士以建家致树炎德行时泰盛雄琛钧冠策腾楠榕风航弘"
PLACES_ZH = "北京 上海 广州 深圳 成都 重庆 杭州 南京 西安 武汉 长沙 厦门 青岛 大连 昆明 拉萨 哈尔滨 乌鲁木齐 香港 澳门 台北 伦敦 巴黎 纽约 东京 莫斯科 悉尼 罗马".split()
THINGS_ZH = "苹果 手机 电脑 雨伞 书包 椅子 桌子 杯子 衣服 鞋子 汽车 自行车 火车票 电影票 面包 牛奶 咖啡 茶叶 照片 词典 钢琴 地图 蛋糕 西瓜 玫瑰 箱子 信封 闹钟 耳机 相机".split()
VERBS_ZH = "买 卖 看见 带来 准备 找到 丢 送给朋友 修好 借走 检查 收到".split()
TIMES_ZH = "昨天 今天 明天 上个月 下星期 去年 前天晚上 刚才 早上 中午 傍晚 国庆节 春节 周末".split()

PATTERNS_ZH = """
{time}我在{place}{verb}了{n}个{thing}。
{name}说，{place}的人口大约是{big}万人。
{time}的气温是{neg}°C到{n}°C，请大家注意保暖。
{year}年{month}月{day}日，{name}出生在{place}。
火车{hour}:{minute}从{place}出发，{hour2}:{minute2}到达{place2}。
这台{thing}的价格是{big}元，打{digit}折以后是{dec}元。
他的电话号码是1{d38}{eight}，请明天给他打电话。
办公室的座机是{seven}，分机号是{three}。
客服热线是400{seven}。
产量比去年增长了{dec}%，达到了{big}吨。
大约有{m}/{k}的学生喜欢{thing}。
{name}身高1.{two}米，体重{n}公斤。
请在{year}-{mm}-{dd}之前把{thing}送到{place}。
比赛的比分是{digit}比{digit2}，{name}进了{digit3}个球。
这本书一共有{big}页，我已经看了{n}页。
{place}到{place2}的距离是{big}公里，开车需要{n}小时。
第{n}届运动会将在{place}举行，有{big}名运动员参加。
{name}今年{n}岁，他的妹妹{digit}岁。
房间的面积是{n}平方米，每平方米{big}元。
版本号是{digit}.{digit2}.{digit3}，比{digit}.{n}新。
圆周率约等于3.14159，{digit}的平方是{n}。
公司在{place}有{n}多家分店，员工超过{big}人。
{time}{name}跑了{dec}公里，用了{n}分{n2}秒。
他们花了{n}万元，买了{digit}台{thing}。
{name}和{name2}一起去{place}看{thing}展览。
如果{name}不去{place}，我也不去了。
一{thing}也没有{verb}，{name}很不高兴。
你{verb}的{thing}在哪儿？我怎么找不到了？
{name}一下子就{verb}了{digit}件东西，真了不起！
从{place}坐飞机到{place2}只要{n}分钟。
把{thing}放在桌子上，别忘了关灯。
{time}下了一场大雪，{place}的学校都放假了。
这里有两个{thing}，一个是{name}的，一个是我的。
{name}老师教我们语文，他讲课讲得非常好。
听说{place}的{thing}很便宜，我想买几个。
为什么{name}总是把{thing}忘在{place}？
他在{place}住了{n}年零{digit}个月。
好几百人在{place}等着看{name}的表演。
温度计显示{n}摄氏度，比{time}高了{digit}度。
{big}加{n}等于多少，{name}一看就知道。
今年的第{digit}季度，{place}的出口额是{dec}亿美元。
编号{five}的{thing}已经送到{place}了。
{name}，你可以给我{digit}把{thing}的钥匙吗？
水的密度是1.0，{thing}的重量是{n}kg。
{hour}点{n}分，{name}准时到了{place}。
这条路长{n}km，宽{digit}m。
""".strip().split("\n")

NAMES_EN = "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph Jessica Thomas Sarah Charles Karen Daniel Nancy Matthew Lisa Anthony Betty Mark Margaret Donald Sandra Steven Ashley Paul Kimberly Andrew Emily Joshua Donna Kenneth Michelle Kevin Carol Brian Amanda George Dorothy Edward Melissa Ronald Deborah Timothy Stephanie Jason Rebecca Jeffrey Sharon Ryan Laura Jacob Cynthia Gary Kathleen Nicholas Amy Eric Angela Jonathan Shirley Stephen Anna Larry Brenda Justin Pamela Scott Emma Brandon Nicole Benjamin Helen".split()
PLACES_EN = "London Paris Boston Chicago Toronto Sydney Berlin Madrid Dublin Seattle Houston Denver Oxford Cambridge Edinburgh Vienna Moscow Tokyo Delhi Cairo Athens Rome Lisbon Warsaw Prague Oslo Helsinki Stockholm Geneva Zurich".split()
THINGS_EN = "apple telephone computer umbrella bicycle window garden kitchen letter picture ticket hammer blanket mirror engine bottle camera guitar candle pillow ladder basket carpet pencil magazine sandwich necklace envelope suitcase newspaper".split()
VERBS_EN = "bought found lost repaired painted borrowed carried described noticed photographed returned delivered collected examined forgot".split()
ADJECTIVES_EN = "quiet heavy bright ancient narrow gentle curious broken empty valuable ordinary modern wooden plastic famous dangerous beautiful comfortable delicious expensive".split()

PATTERNS_EN = """
{name} {verb} the {adj} {thing} in {place} last week.
There are {n} people waiting outside the {adj} station.
The train to {place} leaves at {hour}:{minute} from platform {digit}.
It costs ${n} to send a {thing} from {place} to {place2}.
About {n}% of the visitors came from {place}.
In {year}, {name} moved to {place} with {digit} children.
She {verb} a {thing}, two pencils and a {adj} {thing2}.
The {adj} {thing} belongs to {name}, not to {name2}.
Have you ever seen such a {adj} {thing}?
{name} said that the {thing} was too {adj} for the journey.
Please put the {thing} next to the {adj} {thing2}.
The temperature in {place} dropped to {n} degrees yesterday.
He walked {n} miles before he reached {place}.
Nobody knows why {name} {verb} the {thing}.
The price went up by {digit}.{digit2} percent in three months.
{name} and {name2} will arrive in {place} on Monday morning.
I can't believe that you {verb} my {adj} {thing}!
They didn't expect the {thing} to be so {adj}.
We've been living near {place} for {n} years.
The population of {place} is about {big}.
What happened to the {adj} {thing} that {name} {verb}?
Our meeting starts at {hour} o'clock and lasts {n} minutes.
The {digit}th chapter describes a {adj} {thing} in {place}.
{name} isn't sure whether the {thing} is {adj} or not.
If it rains tomorrow, {name} won't go to {place}.
My brother {verb} an {adj2} {thing} for his wife.
Where did you put the {thing} that we {verb}?
"It's a {adj} day," said {name}, "and I am happy."
The company sold {big} copies of the {adj} {thing}.
You shouldn't carry a {adj} {thing} through {place}.
""".strip().split("\n")

WORDS_MIXED = "iPhone|OpenAI|Python|WiFi|Windows|email|machine learning|hello world|CPU|GPU|OK|KTV|NBA|VIP|App|bug|Google|Linux|deadline|meeting|feedback|PPT|USB|DNA|GPS|Monday morning|good night".split("|")
PATTERNS_MIXED = """
我的{w}坏了，{time}要去{place}修。
{name}用{w}写了一个{w2}，大家都说很好。
这个{w}的价格是{big}元。
请把{w}发给我，谢谢。
今天的{w}在下午{digit}点开始，别忘了带{w2}。
{w}和{w2}有什么区别？
他说“{w}”，然后就走了。
{time}的{w}你看了吗？
打开{w}，输入{n}，再按确定。
{name}觉得{w}比{w2}更好用。
""".strip().split("\n")


def fields(rng):
    def pick(items):
        return rng.choice(items)

    def digits(n, first="123456789"):
        return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(n - 1))

    name = lambda: pick(SURNAMES_ZH) + "".join(pick(GIVEN_ZH) for _ in range(rng.choice([1, 2, 2])))
    k = rng.randint(3, 20)
    common = dict(
        n=rng.randint(2, 99), n2=rng.randint(2, 59), digit=rng.randint(2, 9), digit2=rng.randint(1, 9),
        digit3=rng.randint(1, 9), neg=-rng.randint(1, 25), year=rng.randint(1850, 2035), month=rng.randint(1, 12),
        day=rng.randint(1, 28), hour=rng.randint(1, 12), hour2=rng.randint(13, 23), minute=f"{rng.randint(1, 59):02d}",
        minute2=f"{rng.randint(0, 59):02d}", mm=f"{rng.randint(1, 12):02d}", dd=f"{rng.randint(1, 28):02d}", k=k,
        m=rng.randint(1, k - 1), dec=f"{rng.randint(1, 500)}.{rng.randint(1, 99)}", d38=pick("38"), two=digits(2, "56789"),
        three=digits(3), five=digits(5), seven=digits(7), eight=digits(9, "0123456789"))
    return common, pick, name


def chinese(rng, pattern):
    common, pick, name = fields(rng)
    return pattern.format(**common, big=rng.randint(100, 99999), name=name(), name2=name(), place=pick(PLACES_ZH),
                          place2=pick(PLACES_ZH), thing=pick(THINGS_ZH), verb=pick(VERBS_ZH), time=pick(TIMES_ZH),
                          w=pick(WORDS_MIXED), w2=pick(WORDS_MIXED))


def english(rng, pattern):
    common, pick, _ = fields(rng)
    return pattern.format(**common, big=rng.randint(1, 900) * 1000, name=pick(NAMES_EN), name2=pick(NAMES_EN),
                          place=pick(PLACES_EN), place2=pick(PLACES_EN), thing=pick(THINGS_EN), thing2=pick(THINGS_EN),
                          verb=pick(VERBS_EN), adj=pick(ADJECTIVES_EN), adj2=pick(["ancient", "empty", "ordinary", "expensive"]))


def sentences(kind, count, seed=1):
    rng = random.Random(f"{kind} {seed}")
    root = pathlib.Path(__file__).resolve().parents[1]
    if kind == "en":
        written = [line.strip() for name in ("eval/sentences_en.txt", "train/data/sentences_en.txt")
                   for line in open(root / name, encoding="utf-8") if line.strip()]
        written = rng.sample(written, min(len(written), count // 2))
        patterns, fill = PATTERNS_EN, english
    else:
        written = WRITTEN_ZH.strip().split("\n") if kind == "zh" else []
        patterns, fill = (PATTERNS_ZH, chinese) if kind == "zh" else (PATTERNS_MIXED, chinese)
    result = list(dict.fromkeys(written))[:count]
    seen = set(result)
    for turn in itertools.count():
        if len(result) >= count:
            break
        sentence = fill(rng, patterns[turn % len(patterns)])
        if sentence not in seen:
            seen.add(sentence)
            result.append(sentence)
    return result


if __name__ == "__main__":
    for sentence in sentences(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:])):
        print(sentence)
