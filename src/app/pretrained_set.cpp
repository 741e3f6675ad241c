#include "src/app/pretrained_set.h"

#include <algorithm>

namespace tts {

const std::vector<PretrainedFile>& pretrained_set() {
  static const std::vector<PretrainedFile> kSet = {
      {"chinese-hubert-base/config.json",
       "HuBERT, sizes",
       1'449,
       "c3e5060a1277e0f078cc6be9da4528a605dba6ece93018981fe2c820e5c7b103",
       {}},
      {"chinese-hubert-base/pytorch_model.bin",
       "HuBERT",
       188'811'417,
       "24164f129c66499d1346e2aa55f183250c223161ec2770c0da3d3b08cf432d3c",
       {}},
      {"chinese-roberta-wwm-ext-large/config.json",
       "BERT, sizes",
       963,
       "3d57de2fd7e80d0e5c8ff194f0bbb6baa10df7e43fc262a0cc71298a78b0a3e5",
       {}},
      {"chinese-roberta-wwm-ext-large/tokenizer.json",
       "BERT, vocabulary",
       268'962,
       "173796956820ea27bd14f76bf28162607ff4254807e2948253eb5b46f5bb643b",
       {}},
      {"chinese-roberta-wwm-ext-large/pytorch_model.bin",
       "BERT",
       651'225'145,
       "e53a693acc59ace251d143d068096ae0d7b79e4b1b503fa84c9dcf576448c1d8",
       {}},
      {"sv/pretrained_eres2netv2w24s4ep4.ckpt",
       "speaker network",
       107'528'697,
       "4f5a0bf73c61eb41b174e1bb54e7ee3c83233892be8e0af1f187024e8e581a35",
       {Form::v2pro, Form::v2proplus}},
      {"s1bert25hz-2kh-longer-epoch=68e-step=50232.ckpt", "T2S of v1", 155'000'000, "", {Form::v1}},
      {"gsv-v2final-pretrained/s1bert25hz-5kh-longer-epoch=12-step=369668.ckpt",
       "T2S of v2",
       155'315'150,
       "732f94e63b148066e24c7f9d2637f3374083e637635f07fbdb695dee20ddbe1f",
       {Form::v2}},
      {"s1v3.ckpt",
       "T2S of v2Pro, v2ProPlus, v3, v4",
       155'284'856,
       "87133414860ea14ff6620c483a3db5ed07b44be42e2c3fcdad65523a729a745a",
       {Form::v2pro, Form::v2proplus, Form::v3, Form::v4}},
      {"s2G488k.pth", "acoustic model of v1", 106'000'000, "", {Form::v1}},
      {"gsv-v2final-pretrained/s2G2333k.pth",
       "acoustic model of v2",
       106'035'259,
       "924fdccaa3c574bf139c25c9759aa1ed3b3f99e19a7c529ee996c2bc17663695",
       {Form::v2}},
      {"v2Pro/s2Gv2Pro.pth",
       "acoustic model of v2Pro",
       162'303'657,
       "0f8ead815234365edf045c6d86370ed6e4f440e8195be77ff0ea72684ad406a5",
       {Form::v2pro}},
      {"v2Pro/s2Gv2ProPlus.pth",
       "acoustic model of v2ProPlus",
       200'125'741,
       "d42a22bbbf65fb2bbdd45ad6a66841156977db45c7aabe0a6992ff378d9c7d3b",
       {Form::v2proplus}},
      {"s2Gv3.pth", "acoustic model of v3", 769'000'000, "", {Form::v3}},
      {"models--nvidia--bigvgan_v2_24khz_100band_256x/bigvgan_generator.pt",
       "vocoder of v3",
       450'000'000,
       "",
       {Form::v3}},
      {"gsv-v4-pretrained/s2Gv4.pth",
       "acoustic model of v4",
       769'025'545,
       "906fe22f48c3e037a389df291d4d32a9414e15dbb8f9628643e83aaced109ea4",
       {Form::v4}},
      {"gsv-v4-pretrained/vocoder.pth",
       "vocoder of v4",
       57'781'109,
       "4d611913df7b12d49e8976c944558d2d096816365edfc6c35a9e85b67dd14ed9",
       {Form::v4}},
  };
  return kSet;
}

std::vector<PretrainedFile> pretrained_for(std::span<const Form> forms) {
  std::vector<PretrainedFile> files;
  for (const PretrainedFile& file : pretrained_set()) {
    const bool is_needed = forms.empty() || file.forms.empty() || std::ranges::any_of(file.forms, [&](Form form) {
                             return std::ranges::find(forms, form) != forms.end();
                           });
    if (is_needed) files.push_back(file);
  }
  return files;
}

std::optional<std::string> base_url(std::string_view mirror) {
  if (!mirror.starts_with("https://") && !mirror.starts_with("http://")) return std::nullopt;
  const std::size_t host = mirror.find("//") + 2;
  if (host == mirror.size() || mirror.find_first_of(" \t\r\n\"\\") != std::string_view::npos) return std::nullopt;
  const std::size_t path = mirror.find('/', host);
  if (path == std::string_view::npos) return std::string(mirror) + std::string(kPretrainedPath);
  if (path + 1 == mirror.size()) return std::string(mirror.substr(0, path)) + std::string(kPretrainedPath);
  return std::string(mirror) + (mirror.ends_with('/') ? "" : "/");
}

}  // namespace tts
