//! What lists and pages look like, for people and for programs.

use proto_wire::v1::{CordonRequest, HaltReply, RemoveHostRequest, TokenCreateRequest};
use serde_json::json;

use crate::fake::{RUN, Script, Seen, start};

#[test]
fn hosts_as_a_table_as_names_and_as_json() {
    let started = start(Script::default());
    assert_eq!(
        started.fracas(&["hosts"]).out_lines(),
        [
            "NAME     STATE      CLEAN  USE   ENV      LABELS                  FAULTS  AGE",
            "web      connected  clean  open  staging  env=staging,role=web    0       5m",
            "cache-1  lost       dirty  open  staging  env=staging,role=cache  0       5m",
        ]
    );
    assert_eq!(started.fracas(&["hosts", "list", "-o", "name"]).out, "web\ncache-1\n");
    let list = started.fracas(&["hosts", "-o", "json"]).json();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("fracas/v1"), &json!("HostList")));
    assert_eq!(list["items"][1]["name"], "cache-1");
    assert_eq!(started.fracas(&["hosts", "-o", "jsonl"]).out_lines().len(), 2);
    let yaml = started.fracas(&["host", "list", "-o", "yaml"]).out;
    assert!(
        yaml.starts_with("apiVersion: fracas/v1\nitems:\n  - active_injections: 0\n"),
        "{yaml}"
    );
}

#[test]
fn runs_as_a_table_and_as_a_page() {
    let started = start(Script::default());
    assert_eq!(
        started.fracas(&["runs"]).out_lines(),
        [
            "NAME  RUN               STATE     VERDICT       CLEANUP  ENV      HOSTS  AGE",
            "burn  0123456789abcdef  finished  inconclusive  proven   staging  1      5m",
        ]
    );
    let page = started.fracas(&["runs", "show", "@last"]);
    assert_eq!(page.code, 0);
    for line in [
        "verdict   inconclusive",
        "cleanup   proven",
        "reason    no_hypothesis: nothing was asked of the system",
        "steps[0]  cpu.burn on web  done",
    ] {
        assert!(page.out_lines().contains(&line), "{line}: {}", page.out);
    }
    assert!(page.out.contains("59.4 percent"), "{}", page.out);
    assert!(!page.out.contains('\x1b'), "no colours into a pipe");
    let document = started.fracas(&["run", "show", RUN, "-o", "json"]).json();
    assert_eq!(
        (&document["kind"], &document["injections"][0]["undo_ms"]),
        (&json!("Run"), &json!(41))
    );
}

#[test]
fn events_as_a_timeline_and_one_a_line() {
    let started = start(Script::default());
    let events = started.fracas(&["runs", "events", "@last", "-o", "jsonl"]);
    assert_eq!(events.out_lines().len(), 4);
    let first: serde_json::Value = serde_json::from_str(events.out_lines()[0]).unwrap();
    assert_eq!((&first["type"], &first["seq"]), (&json!("run.phase"), &json!(1)));
    let report = started.fracas(&["runs", "report", "@last"]);
    assert_eq!(report.out, "a report as markdown\n");
    let file = started.path().join("r.json");
    assert_eq!(
        started
            .fracas(&["runs", "report", "@last", "--form", "json", "--to", file.to_str().unwrap()])
            .code,
        0
    );
    assert_eq!(std::fs::read_to_string(file).unwrap(), "a report as json\n");
}

#[test]
fn faults_are_found_by_other_names_and_explained() {
    let started = start(Script::default());
    assert_eq!(
        started.fracas(&["faults", "list", "blackhole"]).out_lines(),
        [
            "NAME               UNDO  HOSTS  SUMMARY",
            "network.partition  full  2      cuts peers off"
        ]
    );
    let none = started.fracas(&["faults", "list", "stress"]);
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "no faults\n"));
    let page = started.fracas(&["faults", "explain", "blackhole"]);
    for line in [
        "fault     network.partition",
        "to         list of string  -        required  Whom to cut off",
    ] {
        assert!(page.out_lines().contains(&line), "{line}: {}", page.out);
    }
    assert!(
        page.out
            .contains("fracas attack network.partition to=role=cache --on NAME --for 30s"),
        "{}",
        page.out
    );
    let near = started.fracas(&["faults", "explain", "network.partitoin"]);
    assert!(near.code == 2 && near.err.contains("did you mean network.partition?"), "{near:?}");
    assert_eq!(
        started.fracas(&["faults", "-o", "json"]).json()["items"][0]["fault"],
        "network.partition"
    );
}

#[test]
fn a_token_is_one_line_to_paste() {
    let started = start(Script::default());
    let arguments = [
        "tokens",
        "create",
        "--label",
        "env=staging",
        "--uses",
        "10",
        "--ttl",
        "1h",
        "--controller",
        "ctl:7400",
    ];
    let said = started.fracas(&arguments);
    let line = "fracas-agent enrol --controller ctl:7400 --token-file - <<< 'fjt1.id.secret.print'";
    assert_eq!((said.code, said.out_lines()), (0, vec![line]));
    assert!(said.err.contains("env       staging"), "{said:?}");
    let asked = TokenCreateRequest {
        labels: [("env".to_owned(), "staging".to_owned())].into(),
        uses: 10,
        ttl_ms: 3_600_000,
        replace: String::new(),
    };
    assert_eq!(started.seen(), [Seen::Token(asked)]);
    let document = started
        .fracas(&["tokens", "create", "--controller", "ctl:7400", "-o", "json"])
        .json();
    assert_eq!((&document["id"], &document["command"]), (&json!("bbbbbbbbbbbbbbbb"), &json!(line)));
    let list = started.fracas(&["tokens"]).out;
    assert!(list.contains("bbbbbbbbbbbbbbbb  open   1/10  env=staging"), "{list}");
}

#[test]
fn a_host_is_removed_with_a_reason_and_replaced_by_a_token() {
    let started = start(Script::default());
    assert_eq!(
        started.fracas(&["hosts", "remove", "web"]).code,
        2,
        "a removal without a reason is refused"
    );
    let said = started.fracas(&["hosts", "remove", "web", "--reason", "burned down", "--force"]);
    assert_eq!(
        (said.code, said.out_lines()),
        (0, vec!["host web is removed; its runs stay on record"]),
        "{said:?}"
    );
    let removed = RemoveHostRequest {
        host: "web".into(),
        reason: "burned down".into(),
        force: true,
    };
    let said = started.fracas(&["tokens", "create", "--replace", "web", "--controller", "ctl:7400"]);
    assert!(
        said.code == 0 && said.err.contains("env       staging"),
        "the environment is the host's: {said:?}"
    );
    let token = TokenCreateRequest {
        uses: 1,
        ttl_ms: 3_600_000,
        replace: "web".into(),
        ..TokenCreateRequest::default()
    };
    assert_eq!(started.seen(), [Seen::Remove(removed), Seen::Token(token)]);
}

#[test]
fn a_halt_succeeds_only_when_every_host_has_answered() {
    let started = start(Script::default());
    let said = started.fracas(&["halt", "--reason", "drill"]);
    assert_eq!(said.code, 0);
    assert_eq!(said.out_lines()[1..], ["hosts     3 told, 3 answered in 120 ms", "undone    5"]);
    assert!(matches!(&started.seen()[0], Seen::Halt(halt) if halt.reason == "drill"));
    let silent = HaltReply {
        hosts_answered: 2,
        silent: vec!["web".into()],
        ..Script::default().halt
    };
    let started = start(Script {
        halt: silent,
        ..Script::default()
    });
    let said = started.fracas(&["halt"]);
    assert_eq!((said.code, said.out_lines().last()), (1, Some(&"silent    web")));
    assert_eq!(started.fracas(&["halt", "-o", "json"]).json()["silent"], json!(["web"]));
}

#[test]
fn the_status_begins_with_the_halt() {
    let started = start(Script::default());
    let said = started.fracas(&["status"]);
    assert_eq!(said.out_lines()[0], "halt        ENGAGED by root@local 5m ago: drill");
    assert_eq!(said.out_lines()[1], "hosts       3 connected, 0 lost, 1 dirty");
    assert_eq!(started.fracas(&["status", "-o", "json"]).json()["halt"]["epoch"], 3);
}

#[test]
fn changes_of_a_host_say_where_they_go() {
    let started = start(Script::default());
    let said = started.fracas(&["hosts", "cordon", "web", "--reason", "disk"]);
    assert_eq!(said.code, 0);
    assert!(
        said.err.contains("context   local") && said.err.contains("env       staging"),
        "{said:?}"
    );
    let asked = CordonRequest {
        host: "web".into(),
        cordoned: true,
        reason: "disk".into(),
    };
    assert_eq!(started.seen(), [Seen::Cordon(asked)]);
    assert_eq!(started.fracas(&["hosts", "label", "web", "zone=a", "role-"]).code, 0);
    let Some(Seen::Label(label)) = started.seen().last().cloned() else {
        panic!("no label was set")
    };
    assert_eq!((label.set["zone"].as_str(), label.remove), ("a", vec!["role".to_owned()]));
    assert_eq!(started.fracas(&["hosts", "verify", "web"]).code, 0);
    assert_eq!(
        started.fracas(&["hosts", "verify", "cache-1"]).code,
        8,
        "a dirty host is not proven clean"
    );
    assert_eq!(started.fracas(&["hosts", "show", "nobody"]).code, 1);
}

#[test]
fn a_host_that_was_not_asked_is_neither_able_nor_unable() {
    let started = start(Script::default());
    let said = started.fracas(&["hosts", "doctor", "web", "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let list: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (&json!("HostDoctorList"), &json!("HostDoctor"))
    );
    let said = started.fracas(&["hosts", "doctor"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains("db") && said.out.contains("not evaluated") && said.out.contains("db is lost"),
        "{said:?}"
    );
}
