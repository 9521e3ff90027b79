//! Schedules and freezes at the command line: what is sent, what is shown, and which exit code it is.

use proto_model::document::ErrorBody;
use proto_model::problem::Problem;
use proto_wire::v1::freezes_server::Freezes;
use proto_wire::v1::schedules_server::Schedules;
use proto_wire::v1::*;
use serde_json::{Value, json};
use tonic::{Request, Response, Status, async_trait};

use crate::fake::{Fake, RUN, Script, Seen, ago, document, documents, start};

fn schedule() -> Value {
    json!({"apiVersion": "fracas/v1", "kind": "Schedule", "id": "cccccccccccccccc", "name": "weekly", "experiment": "checkout",
        "service": "shop", "environment": "staging", "cron": "0 10 * * 2", "timezone": "Europe/Berlin",
        "window": "Mon-Fri 09:00-16:00", "missed": "run-once", "set": {"delay": "2s"}, "paused": false,
        "next": ["2026-11-24T09:00:00.000Z", "2026-12-01T09:00:00.000Z"], "last": tick("skipped"), "verdict": "passed",
        "due": due("overdue"), "created_at": ago(330), "created_by": "root@local", "notes": ["now it would be refused: no host"],
        "ticks": [tick("skipped"), tick("started")]})
}

fn tick(state: &str) -> Value {
    let skipped = state == "skipped";
    json!({"apiVersion": "fracas/v1", "kind": "Tick", "schedule": "weekly", "planned_at": ago(7200 * 2), "state": state,
        "reason": if skipped { json!("freeze") } else { Value::Null }, "message": if skipped { json!("year end") } else { Value::Null },
        "run": if skipped { Value::Null } else { json!(RUN) }, "count": 1, "decided_at": ago(1), "by": "schedule:weekly"})
}

fn due(state: &str) -> Value {
    json!({"state": state, "last": {"run": RUN, "verdict": "passed", "at": ago(36 * 86_400)}, "due_at": "2026-11-01T00:00:00.000Z",
        "overdue_at": "2026-11-08T00:00:00.000Z"})
}

#[async_trait]
impl Schedules for Fake {
    async fn add(&self, request: Request<ScheduleAddRequest>) -> Result<Response<Document>, Status> {
        drop(self.hear(Some(Seen::ScheduleAdd(request.into_inner())))?);
        document(&schedule())
    }
    async fn list(&self, _: Request<SchedulesListRequest>) -> Result<Response<Documents>, Status> {
        drop(self.hear(None)?);
        documents(&[schedule()])
    }
    async fn show(&self, _: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        drop(self.hear(None)?);
        document(&schedule())
    }
    async fn pause(&self, _: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        let mut paused = schedule();
        (paused["paused"], paused["next"]) = (json!(true), json!([]));
        document(&paused)
    }
    async fn resume(&self, _: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        document(&schedule())
    }
    async fn remove(&self, _: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        document(&schedule())
    }
    async fn run_now(&self, request: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        let frozen = request.into_inner().name == "frozen";
        document(&tick(if frozen { "skipped" } else { "started" }))
    }
    async fn due(&self, _: Request<DueRequest>) -> Result<Response<Documents>, Status> {
        let test = |state: &str| {
            json!({"apiVersion": "fracas/v1", "kind": "Due", "service": "shop", "experiment": "checkout", "schedules": ["weekly"],
                "due": due(state)})
        };
        documents(&[test("overdue"), test("fresh")])
    }
}

#[async_trait]
impl Freezes for Fake {
    async fn add(&self, request: Request<FreezeAddRequest>) -> Result<Response<Document>, Status> {
        drop(self.hear(Some(Seen::FreezeAdd(request.into_inner())))?);
        document(&freeze())
    }
    async fn list(&self, _: Request<FreezesListRequest>) -> Result<Response<Documents>, Status> {
        drop(self.hear(None)?);
        documents(&[freeze()])
    }
    async fn remove(&self, _: Request<FreezeRef>) -> Result<Response<Document>, Status> {
        document(&freeze())
    }
    async fn import(&self, request: Request<FreezesImportRequest>) -> Result<Response<FreezesImportReply>, Status> {
        drop(self.hear(Some(Seen::FreezesImport(request.into_inner())))?);
        Ok(Response::new(FreezesImportReply {
            calendar: "retail-2026".into(),
            added: 2,
            removed: 1,
            unchanged: 3,
        }))
    }
}

fn freeze() -> Value {
    json!({"apiVersion": "fracas/v1", "kind": "Freeze", "id": "dddddddddddddddd", "from": "2026-12-20T00:00:00.000Z",
        "until": "2026-12-27T00:00:00.000Z", "reason": "year end", "environment": null, "calendar": null, "in_force": false,
        "created_at": ago(330), "created_by": "root@local"})
}

#[test]
fn a_list_shows_what_is_next_what_was_last_and_the_marks() {
    let started = start(Script::default());
    assert_eq!(
        started.fracas(&["schedules"]).out_lines(),
        [
            "NAME    STATE   CRON        TZ             NEXT                  LAST                     VERDICT  DUE      28 DAYS     35 DAYS     AGE",
            "weekly  active  0 10 * * 2  Europe/Berlin  Tue 2026-11-24 10:00  skipped (freeze) 4h ago  passed   overdue  2026-11-01  2026-11-08  5m",
        ]
    );
    assert_eq!(started.fracas(&["schedule", "list", "-o", "name"]).out, "weekly\n");
    assert_eq!(started.fracas(&["schedules", "-o", "json"]).json()["kind"], "ScheduleList");
    let page = started.fracas(&["schedules", "show", "weekly"]);
    for line in [
        "schedule  weekly (active)",
        "next      Tue 2026-12-01 10:00",
        "set       delay=2s",
        "window    Mon-Fri 09:00-16:00",
    ] {
        assert!(page.out_lines().contains(&line), "{line}: {}", page.out);
    }
    assert!(page.out.contains("year end") && page.out.contains(RUN), "{}", page.out);
    assert!(started.fracas(&["schedules", "pause", "weekly"]).out.contains("weekly (paused)"));
}

#[test]
fn a_schedule_is_sent_as_it_was_typed() {
    let started = start(Script::default());
    let file = started.path().join("checkout.yaml");
    std::fs::write(&file, "apiVersion: fracas/v1\n").unwrap();
    let file = file.to_str().unwrap();
    let said = started.fracas(&[
        "schedules",
        "add",
        file,
        "--cron",
        "0 10 * * 2",
        "--tz",
        "Europe/Berlin",
        "--name",
        "weekly",
        "--window",
        "Mon-Fri 09:00-16:00",
        "--missed",
        "run-once",
        "--set",
        "delay=2s",
        "--confirm",
        "production",
    ]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("note: now it would be refused: no host"), "{}", said.err);
    let expected = ScheduleAddRequest {
        name: "weekly".into(),
        file_text: "apiVersion: fracas/v1\n".into(),
        file_name: file.into(),
        set: [("delay".to_owned(), "2s".to_owned())].into(),
        cron: "0 10 * * 2".into(),
        timezone: "Europe/Berlin".into(),
        window: "Mon-Fri 09:00-16:00".into(),
        missed: "run-once".into(),
        confirm: "production".into(),
    };
    assert_eq!(started.seen(), [Seen::ScheduleAdd(expected)]);
    assert_eq!(started.fracas(&["schedules", "add", file]).code, 2, "a pattern is needed");
    assert_eq!(
        started
            .fracas(&["schedules", "add", file, "--cron", "@daily", "--missed", "later"])
            .code,
        2
    );
}

#[test]
fn a_refused_schedule_says_what_is_allowed() {
    let mut error = ErrorBody::new(
        "unattended",
        "guards: an unattended run needs a guard, and this has 0 (allowed: 1 or more)",
    );
    error.problems = vec![Problem::new("guards", "an unattended run needs a guard, and this has 0").allowed("1 or more")];
    let started = start(Script {
        error: Some(error),
        ..Script::default()
    });
    let file = started.path().join("checkout.yaml");
    std::fs::write(&file, "x").unwrap();
    let said = started.fracas(&["schedules", "add", file.to_str().unwrap(), "--cron", "@daily"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("needs a guard") && said.err.contains("1 or more"), "{}", said.err);
}

#[test]
fn a_tick_asked_for_is_0_only_when_it_started() {
    let started = start(Script::default());
    let said = started.fracas(&["schedules", "run-now", "weekly"]);
    assert_eq!((said.code, said.out_lines()[1]), (0, format!("run       {RUN}").as_str()));
    assert_eq!(
        started.fracas(&["schedules", "run-now", "weekly", "-o", "name"]).out,
        format!("{RUN}\n")
    );
    let said = started.fracas(&["schedules", "run-now", "frozen"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (1, "tick      skipped (freeze)\nwhy       year end\n")
    );
}

#[test]
fn what_is_due_can_fail_a_pipeline() {
    let started = start(Script::default());
    let said = started.fracas(&["schedules", "due"]);
    assert_eq!(said.code, 0);
    assert!(
        said.out_lines()[1].starts_with("checkout  shop     overdue  36d ago"),
        "{}",
        said.out
    );
    assert_eq!(started.fracas(&["schedules", "due", "--fail-overdue"]).code, 1);
}

#[test]
fn freezes_are_sent_and_listed() {
    let started = start(Script::default());
    assert_eq!(
        started.fracas(&["freezes"]).out_lines()[1],
        "dddddddddddddddd  no        2026-12-20T00:00:00.000Z  2026-12-27T00:00:00.000Z  every  -         year end  root@local  5m"
    );
    let said = started.fracas(&[
        "freezes",
        "add",
        "--from",
        "2026-12-20",
        "--until",
        "2026-12-26",
        "--reason",
        "year end",
        "--environment",
        "qa",
    ]);
    assert_eq!(said.code, 0, "{}", said.err);
    let file = started.path().join("retail.yaml");
    std::fs::write(&file, "kind: FreezeCalendar\n").unwrap();
    let said = started.fracas(&["freezes", "import", file.to_str().unwrap()]);
    assert_eq!(said.out, "calendar  retail-2026: 2 added, 1 removed, 3 unchanged\n");
    let expected = FreezeAddRequest {
        from: "2026-12-20".into(),
        until: "2026-12-26".into(),
        timezone: "UTC".into(),
        reason: "year end".into(),
        environment: "qa".into(),
    };
    assert_eq!(started.seen()[0], Seen::FreezeAdd(expected));
    assert!(matches!(&started.seen()[1], Seen::FreezesImport(request) if request.file_text.contains("FreezeCalendar")));
    assert_eq!(started.fracas(&["freezes", "remove", "dddddddddddddddd"]).code, 0);
}
