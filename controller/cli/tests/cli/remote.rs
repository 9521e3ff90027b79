//! A controller on another machine: known by its authority, told who we are, and never trusted otherwise.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::Identity;

use crate::fake::{Script, Started, start};
use crate::tool::{Said, command, finish};

const BEARER: &str = "Bearer fot1.0123456789abcdef.7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e";
const TOKEN: &str = "fot1.0123456789abcdef.7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e";
const OTHER: &str = "fot1.0123456789abcdef.5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// An authority's certificate and a server's identity under it.
fn authority() -> (String, Identity) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&server_key, &issuer)
        .unwrap();
    (certificate, Identity::from_pem(server.pem(), server_key.serialize_pem()))
}

/// The port of a TLS listener in front of the fake; it lives as long as the test process.
fn listen(started: &Started, identity: Identity) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let fake = started.fake.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            fake.serve_tls(tokio::net::TcpListener::from_std(listener).unwrap(), identity, BEARER)
                .await
        });
    });
    port
}

fn private(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn status(started: &Started, port: u16, ca: &str, token: &str) -> Said {
    let run = |arguments: &[&str]| finish(command(started.path(), arguments).spawn().unwrap());
    let server = format!("localhost:{port}");
    let added = run(&[
        "contexts",
        "add",
        "far",
        "--server",
        &server,
        "--ca-file",
        ca,
        "--token-file",
        token,
    ]);
    assert_eq!(added.code, 0, "{added:?}");
    run(&["status", "--context", "far"])
}

#[test]
fn a_token_is_brought_to_a_controller_of_the_known_authority() {
    let started = start(Script::default());
    let (ca, identity) = authority();
    let port = listen(&started, identity);
    let ca = private(started.path(), "ca.pem", &ca);
    let good = private(started.path(), "good", &format!("{TOKEN}\n"));
    let said = status(&started, port, &ca, &good);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains(&format!("at localhost:{port} (context far)")), "{said:?}");
    let bad = private(started.path(), "bad", OTHER);
    assert_eq!(status(&started, port, &ca, &bad).code, 4);
}

#[test]
fn a_file_that_holds_no_token_is_named_and_not_sent() {
    let started = start(Script::default());
    let ca = private(started.path(), "ca.pem", &authority().0);
    let secret = private(started.path(), "key.pem", "something else that is secret");
    // Nobody listens there: it never comes to that.
    let said = status(&started, 1, &ca, &secret);
    assert!(
        said.code == 4 && said.err.contains("cannot use ") && said.err.contains("key.pem"),
        "{said:?}"
    );
    assert!(
        said.err.contains("fracas operators create") && !said.err.contains("something"),
        "{said:?}"
    );
}

#[test]
fn a_controller_of_a_foreign_authority_is_not_talked_to() {
    let started = start(Script::default());
    let (_, identity) = authority();
    let port = listen(&started, identity);
    let (foreign, _) = authority();
    let ca = private(started.path(), "ca.pem", &foreign);
    let token = private(started.path(), "token", TOKEN);
    let said = status(&started, port, &ca, &token);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.err.contains("certificate") && said.err.contains("ca_file"), "{said:?}");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = status(&started, port, &ca, &token);
    assert!(said.code == 1 && said.err.contains("others can read it"), "{said:?}");
}
