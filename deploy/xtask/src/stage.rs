//! The demonstration's software: redis on cache, nginx and a reader of redis on web; it breaks nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use tests_harness::{Cmd, Lab, packages, programs, wait};

const UP: Duration = Duration::from_secs(20);
const NGINX: &str = include_str!("../../demo/nginx.conf");
/// What redis holds and web answers.
const GREETING: &str = "hello from the cache";

pub fn start(lab: &Lab) -> Result<()> {
    redis(lab)?;
    web(lab)?;
    for door in ["web:80", "web:8080"] {
        let answers = || Ok(get(lab, door)?.is_some_and(|answer| answer == format!("200 {GREETING}")));
        wait::until(format_args!("client gets the greeting from {door}"), UP, answers)?;
    }
    Ok(())
}

fn redis(lab: &Lab) -> Result<()> {
    let cache = lab.host("cache");
    let listen = ["--bind", "0.0.0.0", "::", "--port", "6379", "--protected-mode", "no"];
    let forget = ["--save", "", "--appendonly", "no", "--dir", "/run/tmp"];
    cache.start("redis", &Cmd::new(tool("redis-server")?).args(listen).args(forget))?;
    let set = Cmd::new(tool("redis-cli")?).args(["set", "greeting", GREETING]);
    let answers = || Ok(cache.exec(set.clone())?.stdout.trim() == "OK");
    wait::until("redis takes the greeting", UP, answers).map(drop)
}

fn web(lab: &Lab) -> Result<()> {
    let web = lab.host("web");
    let reader = programs::find("fracas-test-greeting")?;
    web.start("reader", &Cmd::new(reader.to_string_lossy()).args(["127.0.0.1:8081", "cache:6379"]))?;
    web.write("/run/demo/nginx.conf", NGINX)?;
    let nginx = Cmd::new(tool("nginx")?).args(["-c", "/run/demo/nginx.conf", "-p", "/run/demo", "-e", "stderr"]);
    web.start("nginx", &nginx).map(drop)
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
