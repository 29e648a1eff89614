use super::*;

#[test]
fn a_name_is_a_plain_file_name_of_bounded_length() {
    assert_eq!(file_name("web-1.a_B"), "web-1.a_B");
    assert_eq!(file_name("../a b\0ü"), "%2E.%2Fa%20b%00%C3%BC");
    assert_eq!(file_name(""), "%");
    assert!(file_name(&"ü".repeat(1000)).len() < MAX_NAME + 6);
}

#[test]
fn a_socket_is_its_users_alone_and_a_stale_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let listener = listen_at(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(listen_at(&path).unwrap_err().kind(), ErrorKind::AddrInUse, "somebody listens");
    // As a killed process leaves it.
    drop(listener);
    let listener = listen_at(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(listener);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    assert_eq!(listen_at(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file", "what is no socket is left alone");
}

#[test]
fn an_error_names_the_path_and_a_remedy() {
    let long = Path::new("/tmp").join("x".repeat(200));
    let error = listen_at(&long).map_err(|error| at(&long, &error)).unwrap_err();
    assert!(error.to_string().contains("at most 107 bytes"), "{error}");
    let missing = Path::new("/nonexistent/a.sock");
    let error = listen_at(missing).map_err(|error| at(missing, &error)).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/a.sock: ") && error.to_string().contains("create"), "{error}");
}
