use super::*;
use serde::Serialize;

#[derive(Debug, PartialEq, Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Sample {
    path: String,
    read_only: bool,
    sector: Option<u32>,
    cache: Cache,
}

#[derive(Debug, PartialEq, Deserialize, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
enum Cache {
    #[default]
    Writeback,
    None,
}

fn error(text: &str) -> String {
    parse::<Sample>(text).unwrap_err().to_string()
}

#[test]
fn the_first_value_needs_no_key() {
    let sample = parse::<Sample>("disk.img,read-only=on,sector=4096,cache=none").unwrap();
    assert_eq!(sample, Sample { path: "disk.img".into(), read_only: true, sector: Some(4096), cache: Cache::None });
    assert_eq!(parse::<Sample>("path=x").unwrap().path, "x");
}

#[test]
fn a_doubled_comma_and_an_equals_sign_belong_to_the_value() {
    assert_eq!(parse::<Sample>("a,,b,read-only=on").unwrap().path, "a,b");
    assert_eq!(parse::<Sample>("/tmp/A=b").unwrap().path, "/tmp/A=b");
    assert_eq!(parse::<Sample>("path=a=b").unwrap().path, "a=b");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    assert_eq!(error("x,readonly=on"), "unknown key `readonly`; did you mean `read-only`?");
    assert_eq!(error("x,zzzzzz=1"), "unknown key `zzzzzz`; known are: path, read-only, sector, cache");
    assert_eq!(error("x,cache=writebak"), "unknown value `writebak`; did you mean `writeback`?");
}

#[test]
fn errors_name_invalid_values_and_repeated_keys() {
    assert_eq!(error("x,sector=many"), "`many` is not a number in range");
    assert_eq!(error("x,read-only=perhaps"), "`perhaps` is neither on nor off");
    assert_eq!(error("x,sector=1,sector=2"), "sector is given twice");
    let twice = "a comma that belongs to a value is written twice";
    assert_eq!(error("x,sector"), format!("`sector` is not of the form key=value; {twice}"));
}

#[test]
fn a_settings_file_may_use_a_string_or_a_table() {
    #[derive(Deserialize)]
    struct File {
        #[serde(deserialize_with = "or_table")]
        one: Sample,
        #[serde(deserialize_with = "or_tables")]
        many: Vec<Sample>,
    }
    let file: File = toml::from_str("one = 'x,sector=512'\nmany = ['y', { path = 'z', sector = 4096 }]").unwrap();
    assert_eq!((file.one.path.as_str(), file.one.sector), ("x", Some(512)));
    assert_eq!((file.many[0].path.as_str(), file.many[1].sector), ("y", Some(4096)));
}
