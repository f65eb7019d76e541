//! The quota through a Redis that speaks TLS.

use std::net::TcpListener;

use super::{Authority, named, new_key};
use crate::redis::{Redis, run_of};
use crate::support::{Desk, kind_server};

#[test]
fn a_quota_server_is_trusted_by_the_same_certificates_as_zim() {
    let (desk, server, authority) = (Desk::new(), kind_server(), Authority::new());
    let key = new_key();
    let certificate = named(&["127.0.0.1"])
        .signed_by(&key, &authority.0)
        .expect("it can sign");
    let files = [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())];
    let [certificate, key] = files.map(|(name, pem)| desk.write(name, pem).display().to_string());
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = free.local_addr().expect("it is bound").port().to_string();
    drop(free);
    let options = [
        ["--tls-port", &port],
        ["--tls-cert-file", &certificate],
        ["--tls-key-file", &key],
        ["--tls-auth-clients", "no"],
    ];
    let Some(redis) = Redis::with(&options.concat()) else {
        return;
    };
    let url = redis
        .url()
        .replace("redis://", "rediss://")
        .replace(&redis.port.to_string(), &port);
    let run = || run_of(&desk, &server, &url, "a", 2);

    let outcome = run().run();
    outcome
        .assert_status(2)
        .assert_says(&["certificate is not trusted", "--ca-cert", "ZIM_QUOTA"]);
    let other = desk.write("other.pem", Authority::new().pem());
    let other = other.to_str().expect("a plain path");
    run().flag("--ca-cert", other).run().assert_status(2);
    // Spoken to without TLS, it does not answer as a Redis does.
    let plain = run_of(&desk, &server, &url.replace("rediss", "redis"), "a", 2)
        .flag("--give-up-after", "1s")
        .run();
    assert!([2, 5].contains(&plain.status), "{plain:?}");

    let own = desk.write("ca.pem", authority.pem());
    let call = run_of(&desk, &server, &url, "b", 2);
    call.flag("--ca-cert", own.to_str().expect("a plain path"))
        .run()
        .assert_status(0);
    assert_eq!(server.requests().len(), 2);
}
