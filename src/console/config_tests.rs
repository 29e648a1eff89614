use super::*;

#[test]
fn every_kind_of_console_parses_back_from_its_text() {
    for text in ["stdio", "none", "file:/tmp/a:b", "pty", "unix:console.sock", "file:file:x"] {
        assert_eq!(text.parse::<ConsoleConfig>().unwrap().to_string(), text);
    }
    assert_eq!("file:/a:b".parse(), Ok(ConsoleConfig::File("/a:b".into())));
    assert_eq!(ConsoleConfig::default(), ConsoleConfig::Stdio);
}

#[test]
fn a_console_is_a_string_in_a_configuration_file() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct File {
        console: ConsoleConfig,
    }
    let file: File = toml::from_str("console = \"unix:/run/x\"").unwrap();
    assert_eq!(file.console, ConsoleConfig::Unix("/run/x".into()));
    assert_eq!(toml::to_string(&file).unwrap(), "console = \"unix:/run/x\"\n");
    let error = toml::from_str::<File>("console = \"sdtio\"").unwrap_err();
    assert!(error.to_string().contains("is stdio meant?"), "{error}");
}

#[test]
fn an_unknown_word_gets_the_nearest_known_one() {
    for (word, nearest) in [("sdtio", "stdio"), ("File:x", "file"), ("unx:/x", "unix"), ("non", "none"), ("PTY", "pty")]
    {
        let error = word.parse::<ConsoleConfig>().unwrap_err().to_string();
        assert!(error.contains(&format!("is {nearest} meant?")), "{error}");
    }
    for word in ["", "telnet:4444", "🦀"] {
        let error = word.parse::<ConsoleConfig>().unwrap_err().to_string();
        assert!(!error.contains("meant") && error.contains("unix:PATH"), "{error}");
    }
}

#[test]
fn a_console_of_kind_file_or_unix_requires_a_path() {
    for kind in ["file", "unix"] {
        for text in [kind.to_string(), format!("{kind}:")] {
            assert_eq!(text.parse::<ConsoleConfig>(), Err(ConsoleParseError::NoPath { kind }));
        }
    }
    assert_eq!("stdio:x".parse::<ConsoleConfig>(), Err(ConsoleParseError::NeedlessPath { kind: "stdio" }));
}
