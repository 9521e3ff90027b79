//! Debian's programs unpacked below the target folder and run on a host, with the machine's own package state as it was.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests_harness::{Cmd, Fleet, Packages, packages, programs, report, wait};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn redis_is_unpacked_not_installed_and_serves_the_greeting() -> Result<()> {
    if let Some(reason) = Fleet::impossible() {
        report::skip(&reason);
        return Ok(());
    }
    let status = || fs::read("/var/lib/dpkg/status");
    let before = status()?;
    Packages::ensure(&["redis-server"])?;
    ensure!(before == status()?, "a package was installed on the machine");
    let fleet = Fleet::create("redis", &["web", "cache"])?;
    let (web, cache) = (fleet.host("web"), fleet.host("cache"));
    let redis = Cmd::new(packages::tool("redis-server")?.to_string_lossy());
    cache.start(
        "redis",
        &redis.args([
            "--bind",
            "0.0.0.0",
            "::",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            "/run/tmp",
        ]),
    )?;
    let set = Cmd::new(packages::tool("redis-cli")?.to_string_lossy()).args(["set", "greeting", "hello"]);
    wait::until("redis takes the greeting", SOON, || {
        Ok(cache.exec(set.clone())?.stdout.trim() == "OK")
    })?;
    ensure!(cache.processes_named("redis-server")?.len() == 1, "a fault finds it by its name");
    let reader = programs::find("fracas-test-greeting")?;
    web.start("reader", &Cmd::new(reader.to_string_lossy()).args(["127.0.0.1:8081", "cache:6379"]))?;
    let helper = programs::find("fracas-test-host")?;
    let get = Cmd::new(helper.to_string_lossy()).args(["get", "127.0.0.1:8081", "/"]);
    wait::until("the reader serves it", SOON, || {
        Ok(web.exec(get.clone())?.stdout.trim() == "200 hello")
    })?;
    let redis = cache.processes_named("redis-server")?[0].pid;
    cache.signal(redis, 19)?;
    let answer = web.exec(get.clone())?.stdout;
    ensure!(answer.starts_with("502 redis: "), "{answer}");
    cache.signal(redis, 18)?;
    wait::until("the reader serves it again", SOON, || {
        Ok(web.exec(get.clone())?.stdout.trim() == "200 hello")
    })?;
    Ok(())
}
