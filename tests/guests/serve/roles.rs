//! Who may do what: tokens, certificates and roles.

use serde_json::{Value, json};

use super::service::{Host, Reply, over_tcp};
use super::tls::{Authority, get, over_tls};
use crate::common::need::{Need, ready};

/// A service at a port of this host and at its default socket.
fn serve() -> (Host, u16) {
    let host = Host::serve_with(&["--listen", "unix:", "--listen", "tcp:127.0.0.1:0"]);
    let port = host.said("serving at http://127.0.0.1:").trim_end_matches('/').parse().unwrap();
    (host, port)
}

fn request(port: u16, method: &str, path: &str, token: &str) -> Reply {
    over_tcp(port, &format!("{method} {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"))
}

fn add(host: &Host, arguments: &[&str]) -> String {
    let run = host.run(&[&["access", "add"], arguments].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    run.output.trim().to_owned()
}

/// Returns the lines of the audit log.
fn audit(host: &Host) -> Vec<Value> {
    let text = std::fs::read_to_string(host.state().join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_role_allows_what_it_says_and_no_more() {
    let (host, port) = serve();
    host.define("web", "");
    let tokens: Vec<_> = ["read", "operate", "administer"].map(|role| add(&host, &[role, "--role", role])).into();
    let document = host.get("/openapi.json");
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(needed) = ["read", "operate", "administer"].iter().position(|role| operation["x-role"] == *role)
            else {
                panic!("{method} {path} has no role: {operation}");
            };
            // What has no end, and what is open to all.
            if path == "/events" || path == "/session" || path == "/" {
                continue;
            }
            let path = path.replace("{name}", "none").replace("{path}", "x");
            for (has, token) in tokens.iter().enumerate() {
                let reply = request(port, &method.to_uppercase(), &path, token);
                assert_eq!(reply.status == 403, has < needed, "{method} {path} with role {has}: {reply:?}");
                count += u32::from(has < needed);
            }
        }
    }
    assert!(count > 15, "{count}");
    let reply = request(port, "POST", "/machines/web/start", &tokens[0]);
    assert!(reply.body.contains("this needs the role operate, and read has the role read"), "{reply:?}");
    assert_eq!(request(port, "GET", "/service", &tokens[1]).json()["role"], "operate");
    assert_eq!(request(port, "GET", "/service", &tokens[1]).json()["who"], "operate");
}

#[test]
fn tokens_are_given_listed_and_taken_away() {
    let (mut host, port) = serve();
    let token = add(&host, &["ci", "--role", "read", "--expires", "30d"]);
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    add(&host, &["bob", "--role", "operate", "--common-name", "bob@example.com"]);
    let list = host.run(&["access", "list"]).output;
    let words = ["ci", "read", "in", "30", "days", "token"];
    assert!(list.lines().any(|line| line.split_whitespace().eq(words)), "{list}");
    assert!(list.contains("certificate of bob@example.com") && !list.contains(&token), "{list}");
    let json: Value = serde_json::from_str(&host.run(&["access", "list", "--json"]).output).unwrap();
    assert_eq!(
        (&json[0]["name"], &json[0]["expired"], json.as_array().unwrap().len()),
        (&json!("ci"), &json!(false), 2)
    );
    assert_eq!(request(port, "GET", "/machines", &token).status, 200);
    let wrong = host.run(&["access", "add", "x", "--role", "root"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert_eq!(host.run(&["access", "remove", "nobody"]).code, Some(2));
    // The next service knows them.
    host.kill();
    host.start();
    let port = host.said("serving at http://127.0.0.1:").trim_end_matches('/').parse().unwrap();
    assert_eq!(request(port, "GET", "/machines", &token).status, 200);
    assert_eq!(host.run(&["access", "remove", "ci"]).code, Some(0));
    assert_eq!(request(port, "GET", "/machines", &token).status, 401);
}

#[test]
fn an_address_that_guesses_tokens_has_to_wait() {
    let (host, port) = serve();
    let wrong = |number: u32| request(port, "GET", "/machines", &format!("{number:064}"));
    let refused = (0..1000).position(|number| wrong(number).status == 429);
    assert!(refused.is_some_and(|count| count >= 10), "{refused:?}");
    let reply = (0..1000).map(wrong).find(|reply| reply.status == 429).unwrap();
    assert!(reply.head.contains("Retry-After: 6") && reply.body.contains("wrong tokens from 127.0.0.1"), "{reply:?}");
    // Those with the right token, or who need none, do not.
    let token = std::fs::read_to_string(host.state().join("token")).unwrap();
    assert_eq!(request(port, "GET", "/machines", token.trim()).status, 200);
    assert_eq!(over_tcp(port, "GET / HTTP/1.1\r\n\r\n").status, 200);
    assert_eq!(host.names(), [""; 0]);
    let lines = audit(&host);
    let is_wrong = |line: &Value| line["from"] == "127.0.0.1" && line["who"].is_null() && line["what"] == "list";
    assert!(lines.iter().all(is_wrong), "{lines:?}");
    // There is no line for each, but for the first ones, with what was answered.
    assert!((10..100).contains(&lines.len()) && lines[0]["status"] == 401, "{}", lines.len());
    assert!(!json!(lines).to_string().contains(&format!("{:064}", 1)), "the token is not in it");
}

#[test]
fn the_page_opens_once_by_a_code() {
    let host = Host::serve_with(&["--open"]);
    let address = host.said("open http://127.0.0.1:");
    let (port, rest) = address.split_once("/#code=").unwrap();
    let (port, code) = (port.parse().unwrap(), rest.split_once(' ').unwrap().0);
    assert_eq!(request(port, "GET", "/machines", code).status, 401, "it is no token");
    assert_eq!(request(port, "POST", "/session", "wrong").status, 401);
    let session = request(port, "POST", "/session", code);
    let token = session.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(request(port, "GET", "/service", &token).json()["role"], "administer");
    assert_eq!(request(port, "POST", "/session", code).status, 401, "it is used up");
}

#[test]
fn changes_are_noted_without_secrets() {
    let (host, port) = serve();
    let token = add(&host, &["ci", "--role", "operate"]);
    host.define("web", "");
    assert_eq!(request(port, "POST", "/machines/web/start", &token).status, 200);
    assert_eq!(request(port, "DELETE", "/machines/web", &token).status, 403);
    assert_eq!(request(port, "POST", "/machines/none/kill", &token).status, 404);
    assert_eq!(request(port, "GET", "/machines", &token).status, 200);
    let lines = audit(&host);
    let shown = |line: &Value| ["who", "from", "what", "name", "status", "error"].map(|key| line[key].clone());
    let user = format!("user {}", rustix::process::geteuid().as_raw());
    let expected = [
        json!([user, "unix", "grant", "ci", 201, null]),
        json!([user, "unix", "define", "web", 201, null]),
        json!(["ci", "127.0.0.1", "start", "web", 200, null]),
        json!(["ci", "127.0.0.1", "undefine", "web", 403, "forbidden"]),
        json!(["ci", "127.0.0.1", "kill", "none", 404, "not-found"]),
    ];
    assert_eq!(lines.iter().map(|line| json!(shown(line))).collect::<Vec<_>>(), expected);
    assert!(lines.iter().all(|line| line["time"].as_f64().is_some_and(|time| time > 1e9)), "{lines:?}");
    assert!(!json!(lines).to_string().contains(&token));
}

#[test]
fn certificates_of_clients_have_roles() {
    if !ready(&[Need::Tool("openssl")]) {
        return;
    }
    let authority = Authority::new();
    for name in ["server", "alice", "bob", "carol"] {
        authority.sign(name, 30);
    }
    let (host, port) = authority.serve("server", &format!(",client-ca={}", authority.path("ca.pem").display()));
    add(&host, &["alice", "--role", "operate", "--certificate", authority.path("alice.pem").to_str().unwrap()]);
    add(&host, &["bobby", "--role", "read", "--common-name", "bob"]);
    let service =
        |name: Option<&str>| over_tls(&authority.client(name), port, "GET /service HTTP/1.1\r\n\r\n").unwrap();
    let alice = service(Some("alice")).json();
    assert_eq!((&alice["who"], &alice["role"]), (&json!("alice"), &json!("operate")));
    let bob = service(Some("bob")).json();
    assert_eq!((&bob["who"], &bob["role"]), (&json!("bobby"), &json!("read")));
    let carol = service(Some("carol"));
    assert!(carol.status == 401 && carol.body.contains("nobody has given the certificate sha256:"), "{carol:?}");
    assert_eq!(service(None).status, 401);
    // A token goes before a certificate.
    let token = std::fs::read_to_string(host.state().join("token")).unwrap();
    let reply = over_tls(&authority.client(Some("bob")), port, &get("/service", token.trim())).unwrap();
    assert_eq!(reply.json()["role"], "administer");
    // A certificate of another authority, and one that has expired.
    let stranger = Authority::new();
    stranger.sign("alice", 30);
    std::fs::copy(authority.path("ca.pem"), stranger.path("ca.pem")).unwrap();
    let error = over_tls(&stranger.client(Some("alice")), port, "GET /service HTTP/1.1\r\n\r\n").unwrap_err();
    assert!(error.contains("UnknownCA") || error.contains("DecryptError") || error.contains("reset"), "{error}");
    authority.sign("bob", 0);
    let expired = || over_tls(&authority.client(Some("bob")), port, "GET /service HTTP/1.1\r\n\r\n");
    let is_refused = || expired().is_err_and(|error| error.contains("CertificateExpired"));
    assert!(crate::common::patience::holds_within(std::time::Duration::from_secs(60), is_refused), "{:?}", expired());
}
