//! The demonstration's software: redis, and nginx before a reader of redis, on hosts of their own or together; it breaks nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_harness::lab::CONTROL;
use tests_harness::{Cmd, Lab, packages, programs, wait};

const UP: Duration = Duration::from_secs(20);
const NGINX: &str = include_str!("../../demo/nginx.conf");
/// Customers who ask web all the time. Their packets to redis are what shows a share that is lost: one probe a second makes too few.
const CUSTOMERS: usize = 4;
/// How long a customer rests between two questions, in seconds.
const REST: &str = "0.1";
/// What redis holds and web answers.
const GREETING: &str = "hello from the cache";

/// Redis on cache and nginx on web, as the experiments of environment `demo` know them; both on `live`, which counts as production.
pub fn start(lab: &Lab) -> Result<()> {
    redis(lab, "cache")?;
    web(lab, "web", "cache:6379")?;
    redis(lab, "live")?;
    web(lab, "live", "127.0.0.1:6379")?;
    for door in ["web:80", "web:8080", "live:80"] {
        let answers = || Ok(get(lab, door)?.is_some_and(|answer| answer == format!("200 {GREETING}")));
        wait::until(format_args!("client gets the greeting from {door}"), UP, answers)?;
    }
    customers(lab)
}

/// On the controller's host: no agent looks after it, and processes that come and go are no residue there.
fn customers(lab: &Lab) -> Result<()> {
    let helper = programs::find("fracas-test-host")?;
    let ask = format!(
        "while :; do {} get web:8080 / >/dev/null 2>&1; sleep {REST}; done",
        helper.display()
    );
    for number in 1..=CUSTOMERS {
        lab.host(CONTROL).start(&format!("customer-{number}"), &Cmd::sh(&ask))?;
    }
    Ok(())
}

fn redis(lab: &Lab, name: &str) -> Result<()> {
    let host = lab.host(name);
    let listen = ["--bind", "0.0.0.0", "::", "--port", "6379", "--protected-mode", "no"];
    let forget = ["--save", "", "--appendonly", "no", "--dir", "/run/tmp"];
    host.start("redis", &Cmd::new(tool("redis-server")?).args(listen).args(forget))?;
    let set = Cmd::new(tool("redis-cli")?).args(["set", "greeting", GREETING]);
    let answers = || Ok(host.exec(set.clone())?.stdout.trim() == "OK");
    wait::until(format_args!("redis on {name} takes the greeting"), UP, answers).map(drop)
}

fn web(lab: &Lab, name: &str, cache: &str) -> Result<()> {
    let host = lab.host(name);
    let reader = programs::find("fracas-test-greeting")?;
    host.start("reader", &Cmd::new(reader.to_string_lossy()).args(["127.0.0.1:8081", cache]))?;
    host.write("/run/demo/nginx.conf", NGINX)?;
    let nginx = Cmd::new(tool("nginx")?).args(["-c", "/run/demo/nginx.conf", "-p", "/run/demo", "-e", "stderr"]);
    host.start("nginx", &nginx).map(drop)
}

/// What the client host is answered, as `200 body`; none while nobody answers.
fn get(lab: &Lab, door: &str) -> Result<Option<String>> {
    let helper = programs::find("fracas-test-host")?;
    let output = lab
        .host("client")
        .exec(Cmd::new(helper.to_string_lossy()).args(["get", door, "/"]))?;
    Ok(output.success().then(|| output.stdout.trim().to_owned()))
}

fn tool(name: &str) -> Result<String> {
    let path = packages::tool(name)?;
    Ok(path.to_str().context("a path that is text")?.to_owned())
}
