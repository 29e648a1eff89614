use super::*;
use crate::config::text;

fn services(options: &str) -> Vec<(Kind, Forced)> {
    let options: ServiceOptions = text::parse(options).unwrap();
    options.check().unwrap();
    options.services().collect()
}

#[test]
fn all_services_are_on_by_default() {
    let all: Vec<_> = ServiceOptions::default().services().collect();
    assert_eq!(all, Kind::ALL.map(|kind| (kind, Forced::default())));
    let kinds = |options| services(options).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    assert_eq!(kinds("heartbeat=off,file-copy=off"), [Kind::Shutdown, Kind::Time, Kind::KeyValue, Kind::Vss]);
    assert_eq!(kinds("off"), []);
    assert_eq!(kinds("off,kvp=on"), [Kind::KeyValue]);
}

#[test]
fn a_version_can_be_forced() {
    let forced = Forced { framework: Some(Version::new(1, 0)), version: Some(Version::new(3, 1)) };
    assert_eq!(services("off,shutdown=3.1,framework=1.0"), [(Kind::Shutdown, forced)]);
}

#[test]
fn the_error_for_an_unknown_service_lists_the_known_ones() {
    let error = |options: &str| match text::parse::<ServiceOptions>(options) {
        Ok(options) => options.check().unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(error("time=2.0"), "time=2.0: there is no such version; known are 1.0, 3.0, 4.0");
    assert_eq!(error("framework=2.0"), "framework=2.0: there is no such version; known are 1.0, 3.0");
    assert_eq!(error("vss=of"), "`of` is neither on, off nor a version such as 3.0");
    assert_eq!(error("hartbeat=off"), "unknown key `hartbeat`; did you mean `heartbeat`?");
}
