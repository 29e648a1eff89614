use std::os::unix::fs::PermissionsExt;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).unwrap();
    (folder, store)
}

fn new(text: &str) -> NewEntry {
    serde_json::from_str(text).unwrap()
}

fn who(access: &Access, token: &str) -> Option<(String, Role)> {
    access.by_token(&digest(token.as_bytes())).map(|caller| (caller.who, caller.role))
}

#[test]
fn a_token_has_its_role_until_it_is_replaced_or_removed() {
    let (_folder, store) = store();
    let mut access = Access::load(&store).unwrap();
    let add = |access: &mut Access, name: &str, text: &str| {
        access.add(&store, name, &new(text)).unwrap()["token"].as_str().unwrap().to_owned()
    };
    let first = add(&mut access, "ci", r#"{"role": "read"}"#);
    let other = add(&mut access, "bob", r#"{"role": "administer", "expires-seconds": 1000}"#);
    assert_eq!(who(&access, &first), Some(("ci".into(), Role::Read)));
    assert_eq!(who(&access, &other), Some(("bob".into(), Role::Administer)));
    assert_eq!(who(&access, &first[1..]), None);
    let second = add(&mut access, "ci", r#"{"role": "operate"}"#);
    assert_eq!((who(&access, &first), who(&access, &second)), (None, Some(("ci".into(), Role::Operate))));
    let reloaded = Access::load(&store).unwrap();
    assert_eq!(reloaded.entries, access.entries);
    access.remove(&store, "ci").unwrap();
    assert_eq!(access.remove(&store, "ci").unwrap_err().status, 404);
    assert_eq!(who(&access, &second), None);
    assert_eq!(access.to_json()["access"][0]["name"], "bob");
}

#[test]
fn a_role_lasts_as_long_as_its_entry() {
    let (_folder, store) = store();
    let mut access = Access::load(&store).unwrap();
    let certificate = format!(r#""certificate": "{}""#, "ab".repeat(32));
    let add = |access: &mut Access, more: &str| {
        access.add(&store, "ci", &new(&format!("{{{certificate}, {more}}}"))).unwrap();
    };
    let proof = Proof::CertificateSha256("ab".repeat(32));
    let left = |access: &Access, role| access.left("ci", &proof, role);
    add(&mut access, r#""role": "operate""#);
    let roles = [Role::Read, Role::Operate, Role::Administer];
    assert_eq!(roles.map(|role| left(&access, role)), [Some(Duration::MAX), Some(Duration::MAX), None]);
    add(&mut access, r#""role": "read", "expires-seconds": 100"#);
    assert!(left(&access, Role::Read).is_some_and(|left| left <= Duration::from_secs(100)));
    assert_eq!(left(&access, Role::Operate), None, "it has a lesser role");
    access.add(&store, "ci", &new(r#"{"role": "operate"}"#)).unwrap();
    assert_eq!(left(&access, Role::Read), None, "another proof has replaced it");
    add(&mut access, r#""role": "read""#);
    access.remove(&store, "ci").unwrap();
    assert_eq!(left(&access, Role::Read), None);
    add(&mut access, r#""role": "read""#);
    access.entries[0].expires = Some(now());
    assert_eq!(left(&access, Role::Read), None, "it has expired");
}

#[test]
fn the_file_has_no_token_and_is_for_its_user_alone() {
    let (_folder, store) = store();
    let mut access = Access::load(&store).unwrap();
    let token = access.add(&store, "ci", &new(r#"{"role": "read"}"#)).unwrap()["token"].as_str().unwrap().to_owned();
    let path = path_in(store.path());
    assert!(!fs::read_to_string(&path).unwrap().contains(&token));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Access::load(&store).unwrap_err().to_string().contains("chmod 600"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "[{\"name\": 3}]").unwrap();
    assert!(Access::load(&store).unwrap_err().to_string().contains("access.json: invalid type"));
}

#[test]
fn a_token_ends_at_its_time() {
    let (_folder, store) = store();
    let mut access = Access::load(&store).unwrap();
    let text = r#"{"role": "read", "expires-seconds": 100}"#;
    let token = access.add(&store, "ci", &new(text)).unwrap()["token"].as_str().unwrap().to_owned();
    assert!(who(&access, &token).is_some());
    access.entries[0].expires = Some(now());
    assert_eq!(who(&access, &token), None);
    assert_eq!(access.to_json()["access"][0]["expired"], true);
}

#[test]
fn wrong_entries_are_refused_and_change_nothing() {
    let (_folder, store) = store();
    let mut access = Access::load(&store).unwrap();
    for (name, text) in [
        ("a/b", r#"{"role": "read"}"#),
        ("a", r#"{"role": "read", "expires-seconds": 0}"#),
        ("a", r#"{"role": "read", "expires-seconds": 18446744073709551615}"#),
        ("a", r#"{"role": "read", "certificate": "abc"}"#),
        ("a", r#"{"role": "read", "common-name": ""}"#),
        ("a", r#"{"role": "read", "common-name": "x", "certificate": "y"}"#),
    ] {
        assert_eq!(access.add(&store, name, &new(text)).unwrap_err().status, 400, "{text}");
    }
    assert!(serde_json::from_str::<NewEntry>(r#"{"role": "root"}"#).is_err());
    for number in 0..MAX_ENTRIES {
        access.entries.push(Entry {
            name: format!("n{number}"),
            role: Role::Read,
            proof: Proof::CommonName("x".into()),
            created: 0,
            expires: None,
        });
    }
    assert_eq!(access.add(&store, "a", &new(r#"{"role": "read"}"#)).unwrap_err().status, 409);
    assert!(access.add(&store, "n3", &new(r#"{"role": "read"}"#)).is_ok(), "it replaces one");
}

#[test]
fn a_certificate_is_known_by_its_fingerprint() {
    let (_folder, store) = store();
    let mut access = Access::load(&store).unwrap();
    let fingerprint = digest(b"a certificate").to_ascii_uppercase();
    let shown = access.add(&store, "bob", &new(&format!(r#"{{"role": "operate", "certificate": "{fingerprint}"}}"#)));
    assert_eq!(shown.unwrap().get("token"), None);
    assert_eq!(access.by_certificate(b"a certificate").unwrap().role, Role::Operate);
    assert_eq!(access.by_certificate(b"another one"), None);
}

#[test]
fn roles_are_ordered() {
    assert!(Role::Read < Role::Operate && Role::Operate < Role::Administer);
    assert_eq!(serde_json::to_value(Role::Administer).unwrap(), Role::Administer.name());
}
