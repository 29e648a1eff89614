use std::os::unix::fs::PermissionsExt;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).unwrap();
    (folder, store)
}

fn names(store: &Store) -> Vec<String> {
    store.load_all().unwrap().machines.into_keys().collect()
}

#[test]
fn definitions_are_written_replaced_and_removed() {
    let (_folder, store) = store();
    let put = |name: &str, text: &str| store.put(name, &store.parse(text).unwrap()).unwrap();
    put("web", "cmdline = \"a\"\n");
    put("web", "cmdline = \"b\"\n");
    put("db", "");
    assert_eq!(names(&store), ["db", "web"]);
    assert_eq!(store.load("web").unwrap().config.cmdline, "b");
    let mode = fs::metadata(store.file("web")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a definition may have secrets");
    store.delete("web").unwrap();
    store.delete("web").unwrap();
    assert_eq!(names(&store), ["db"]);
    assert_eq!(fs::read_dir(store.path.join("new")).unwrap().count(), 0);
}

#[test]
fn machines_that_run_are_written_down() {
    let (_folder, store) = store();
    for name in ["web", "db", "web"] {
        store.set_running(name, true).unwrap();
    }
    store.set_running("db", false).unwrap();
    store.set_running("never", false).unwrap();
    assert_eq!(store.running().unwrap(), BTreeSet::from(["web".to_owned()]));
}

#[test]
fn broken_and_unknown_files_are_named_and_left_alone() {
    let (_folder, store) = store();
    let machines = store.path.join("machines");
    fs::write(machines.join("broken.toml"), "kernel = ").unwrap();
    fs::write(machines.join("binary.toml"), [0xff, 0xfe]).unwrap();
    fs::write(machines.join("long.toml"), "#".repeat(MAX_LENGTH + 1)).unwrap();
    fs::create_dir(machines.join("folder.toml")).unwrap();
    fs::write(machines.join("notes.txt"), "").unwrap();
    fs::write(machines.join(".hidden.toml"), "").unwrap();
    std::os::unix::fs::symlink("/dev/zero", machines.join("endless.toml")).unwrap();
    fs::write(machines.join("right.toml"), "").unwrap();
    let found = store.load_all().unwrap();
    let valid: Vec<_> =
        found.machines.iter().filter(|(_, definition)| definition.is_ok()).map(|(name, _)| name).collect();
    assert_eq!(valid, ["right"]);
    assert_eq!(found.machines.len(), 6);
    assert!(found.machines["broken"].as_ref().unwrap_err().place.is_some());
    let mut unknown: Vec<_> =
        found.unknown.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    unknown.sort_unstable();
    assert_eq!(unknown, [".hidden.toml", "notes.txt"]);
    assert_eq!(fs::read_dir(machines).unwrap().count(), 8, "all are still there");
}

#[test]
fn files_that_an_ended_service_was_writing_are_removed() {
    let (folder, store) = store();
    fs::write(store.path.join("new/0"), "kern").unwrap();
    drop(store);
    let store = Store::open(&folder.path().join("state")).unwrap();
    assert_eq!(fs::read_dir(store.path.join("new")).unwrap().count(), 0);
    assert_eq!(names(&store), [""; 0]);
}

#[test]
fn a_state_directory_has_one_service() {
    let (folder, store) = store();
    let error = Store::open(&folder.path().join("state")).err().unwrap();
    assert!(error.to_string().contains("another viridian serve"), "{error}");
    drop(store);
    Store::open(&folder.path().join("state")).unwrap();
}

#[test]
fn a_token_is_made_once_and_is_a_secret() {
    let (_folder, store) = store();
    let token = store.token().unwrap();
    assert_eq!(token.len(), 64);
    assert_eq!(store.token().unwrap(), token);
    let path = store.path.join("token");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(store.token().unwrap_err().to_string().contains("others can read it"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "").unwrap();
    assert!(store.token().unwrap_err().to_string().contains("no token"));
}
