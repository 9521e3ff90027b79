//! The dashboard in a real browser, over a real installation: signing in, what acts now, one run, the halt, and who may not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;
use rusqlite::{Connection, OpenFlags};
use tests_browser::{Browser, PACKAGES, Page};
use tests_harness::lab::CONTROL;
use tests_harness::{Lab, LabPlan, Packages, programs, report, wait};

const DOOR: &str = "https://127.0.0.1:7443/";
/// Where pictures go besides the target folder; `docs/screens` to renew those of the documentation.
const SCREENS: &str = "FRACAS_SCREENS";
const SOON: Duration = Duration::from_secs(20);

/// Three hosts under one controller; `None`, and said why, where there can be none.
fn lab(name: &str) -> Result<Option<Lab>> {
    if let Some(why) = tests_browser::impossible() {
        report::skip(&why);
        return Ok(None);
    }
    Packages::ensure(&["iproute2", "nftables"])?;
    Packages::ensure(&PACKAGES)?;
    let plan = LabPlan::new(name, "staging").host("web", "web").host("cache", "cache");
    plan.start().map(Some)
}

fn token(lab: &Lab, name: &str, role: &str) -> Result<String> {
    let made = lab.json(&["operators", "create", name, "--role", role, "--ttl", "1h"])?;
    Ok(made["token"].as_str().context("a new token is shown once")?.to_owned())
}

fn sign_in(page: &mut Page<'_>, token: &str) -> Result<()> {
    page.go(DOOR)?;
    page.shows("Operator token")?;
    page.fill("input[name=token]", token)?;
    page.click("form[action='/sign-in'] button")?;
    page.shows("Acting now")
}

fn picture(page: &mut Page<'_>, name: &str) -> Result<()> {
    let folder = programs::target_folder()?.join("browser");
    let also = std::env::var_os(SCREENS).map(|folder| programs::repository().join(PathBuf::from(folder)));
    for folder in [Some(folder), also].into_iter().flatten() {
        std::fs::create_dir_all(&folder)?;
        page.picture(&folder.join(format!("{name}.png")))?;
    }
    Ok(())
}

fn attack(lab: &Lab) -> Result<String> {
    let line = [
        "attack",
        "cpu.burn",
        "percent=10",
        "--on",
        "role=web",
        "--for",
        "2m",
        "--detach",
        "-o",
        "name",
    ];
    Ok(lab.fracas(&line)?.ok()?.trim().to_owned())
}

#[test]
fn a_reader_sees_what_acts_and_halts_it() -> Result<()> {
    let Some(lab) = lab("browser")? else { return Ok(()) };
    let secret = token(&lab, "ann", "administrator")?;
    let mut browser = Browser::start(lab.host(CONTROL))?;
    let mut page = browser.open()?;
    page.go(&format!("{DOOR}now"))?;
    page.shows("Operator token")?;
    picture(&mut page, "sign-in")?;
    page.fill("input[name=token]", "fot1.nobody.nothing")?;
    page.click("form[action='/sign-in'] button")?;
    page.shows("not an operator's token")?;
    sign_in(&mut page, &secret)?;
    page.shows("ann, administrator")?;
    page.shows("Nothing acts on any host.")?;
    assert_eq!(page.ask("document.querySelectorAll('#hosts tbody tr').length")?, 2);
    assert_eq!(page.ask("document.cookie")?, "", "a script can read the session's cookie");

    // Nobody loads the page again: what acts comes by itself, and counts down by itself.
    let run = attack(&lab)?;
    page.shows("cpu.burn")?;
    page.until("the countdown runs", "document.querySelector('#acting [data-left-ms]') !== null")?;
    let left = "parseInt(document.querySelector('#acting .countdown span').textContent)";
    let first = page.ask(left)?.as_i64().context("seconds are shown")?;
    page.until("it counts down", &format!("{left} < {first}"))?;
    picture(&mut page, "now")?;
    page.prefer("dark")?;
    picture(&mut page, "now-dark")?;
    page.prefer("light")?;

    page.go(&format!("{DOOR}runs/{run}"))?;
    page.shows("no verdict yet")?;
    page.until("the timeline is a picture", "document.querySelector('svg[role=img]') !== null")?;
    picture(&mut page, "run")?;

    page.go(&format!("{DOOR}now"))?;
    page.fill("form[action='/halt'] input[name=reason]", "seen <b>enough</b>")?;
    page.click("form[action='/halt'] button")?;
    page.shows("halted by ann: seen <b>enough</b>")?;
    picture(&mut page, "halted")?;
    wait::until("the injection is undone", SOON, || {
        Ok(lab.json(&["status"])?["injections_active"] == 0)
    })?;
    page.shows("Nothing acts on any host.")?;
    assert_eq!(lab.json(&["runs", "show", &run])?["ended_by"], "halt");
    page.fill("form[action='/release'] input[name=reason]", "drill")?;
    page.click("form[action='/release'] button")?;
    page.shows("Halt everything")?;
    let audited = lab.fracas(&["audit", "list", "-o", "json"])?.ok()?;
    for call in ["Emergency/Halt", "Emergency/Release", "Pages/SignIn"] {
        assert!(audited.contains(call), "{call} is not in the audit log: {audited}");
    }
    // The page may have heard of the release before the answer to its own form came: what is clicked in between goes with it.
    page.go(&format!("{DOOR}now"))?;
    page.click("form[action='/sign-out'] button")?;
    page.shows("Operator token")?;
    page.go(&format!("{DOOR}now"))?;
    page.shows("Operator token")?;
    // A door that refuses says so by its status, which the browser lists as an error; nothing else may be.
    let complaints: Vec<String> = page.complaints()?.into_iter().filter(|said| !said.contains("401")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

#[test]
fn a_viewer_may_halt_but_not_release_and_a_revoked_token_shows_nothing() -> Result<()> {
    let Some(lab) = lab("viewer")? else { return Ok(()) };
    let secret = token(&lab, "vic", "viewer")?;
    let mut browser = Browser::start(lab.host(CONTROL))?;
    let mut page = browser.open()?;
    sign_in(&mut page, &secret)?;
    page.click("form[action='/halt'] button")?;
    page.shows("halted by vic")?;
    page.shows("An administrator may release it.")?;
    let form = "document.querySelector('form.person input').value";
    let post = |secret: &str| {
        format!(
            "fetch('/release', {{method: 'POST', headers: {{'content-type': 'application/x-www-form-urlencoded'}}, \
             body: 'reason=x&form_secret=' + {secret}}}).then((answer) => answer.status)"
        )
    };
    assert_eq!(page.ask(&post(form))?, 403, "a viewer released a halt");
    assert_eq!(page.ask(&post("'00'"))?, 403, "a form without its secret was taken");
    assert_eq!(lab.json(&["status"])?["halt"]["engaged"], true);
    let policy = "fetch('/now').then((answer) => answer.headers.get('content-security-policy'))";
    let policy = page.ask(policy)?;
    assert!(
        policy.as_str().is_some_and(|policy| policy.starts_with("default-src 'none'")),
        "{policy}"
    );
    // What is open ends with the token.
    lab.fracas(&["operators", "revoke", "vic"])?.ok()?;
    page.shows("Operator token")
}

#[test]
fn a_page_that_the_controller_cannot_read_says_so_until_it_can() -> Result<()> {
    let Some(lab) = lab("stale")? else { return Ok(()) };
    let secret = token(&lab, "vic", "viewer")?;
    let mut browser = Browser::start(lab.host(CONTROL))?;
    let mut page = browser.open()?;
    sign_in(&mut page, &secret)?;
    let banner = "document.getElementById('stale').hidden";
    assert_eq!(page.ask(banner)?, true);
    // As when the store is damaged: what is asked of it fails.
    change_store(&lab, "ALTER TABLE runs RENAME TO away")?;
    page.until("the banner is shown", &format!("!{banner}"))?;
    page.shows("The controller cannot read its records: what you see is from")?;
    page.shows("and may be wrong")?;
    change_store(&lab, "ALTER TABLE away RENAME TO runs")?;
    page.until("the banner is hidden again", banner)
}

/// From inside of the control host, in a thread of its own: SQLite resolves links, and would find the machine's own folder.
fn change_store(lab: &Lab, sql: &'static str) -> Result<()> {
    let root = lab.host(CONTROL).path("/");
    let inside = std::thread::spawn(move || -> Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        chroot(&root)?;
        std::env::set_current_dir("/")?;
        let store = Connection::open_with_flags("/var/lib/fracas/controller/store.db", OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(store.execute_batch(sql)?)
    });
    inside.join().map_err(|_| anyhow!("the thread inside of the host broke off"))?
}
