//! The pages as a browser asks for them, over a real store in a folder: what is written down of who came, and what is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use controller_conductor::{RunClock, Settings, Supervisor, SupervisorParts};
use controller_dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings, HaltLatch};
use controller_policy::Policy;
use controller_scheduler::Scheduler;
use controller_store::{Actor, OperatorRecord, SqliteStore, StoreHandle, hash_secret};
use proto_model::document::{AuditEntry, AuditOutcome};
use proto_model::role::Role;
use proto_model::time::Timestamp;
use proto_probes::AddressRule;
use proto_transport::{AUTHORITY_LIFE_MS, Authorities, IssuedList, OperatorToken, PeerInfo};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tower::Service;

use crate::audit::AuditLog;
use crate::glances::Glances;
use crate::keyring::Keyring;
use crate::service::{Api, ApiParts};

pub(crate) const NOW: Timestamp = Timestamp(1_000_000_000);
const WITHIN: Duration = Duration::from_secs(10);
const PAGE_BYTES: usize = 1 << 20;

pub(crate) struct World {
    pub api: Api,
    pages: axum::Router,
    folder: tempfile::TempDir,
    _said: mpsc::Receiver<controller_conductor::HostEvent>,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreHandle::spawn(Box::new(SqliteStore::open(folder.path().join("store.db")).unwrap()));
        let latch = Arc::new(HaltLatch::open(
            &folder.path().join("halted"),
            store.call(|store| store.halt()).await.unwrap(),
        ));
        let (said, heard) = mpsc::channel(8);
        let known = Arc::default();
        let authorities = Arc::new(Authorities::open_or_create(&folder.path().join("authority"), AUTHORITY_LIFE_MS, NOW).unwrap());
        let dispatcher = Dispatcher::new(DispatcherParts {
            store: store.clone(),
            authorities: authorities.clone(),
            latch: latch.clone(),
            said,
            known: Arc::clone(&known),
            settings: DispatcherSettings::default(),
            now: || NOW,
        });
        let voice = Arc::new(dispatcher.await.unwrap());
        let runs = Supervisor::new(SupervisorParts {
            store: store.clone(),
            voice: voice.clone(),
            latch,
            known,
            policy: Policy::default(),
            rule: AddressRule::anything(),
            settings: Settings::default(),
            clock: RunClock::new(|| NOW),
        });
        let api = Api::new(ApiParts {
            voice,
            runs,
            keyring: Keyring::load(store.clone()).await.unwrap(),
            audit: AuditLog::open(&folder.path().join("audit")).unwrap(),
            policy: Policy::default(),
            authorities,
            issued: IssuedList::open(&folder.path().join("issued")),
            reports: folder.path().join("reports"),
            now: || NOW,
            cadence_now: || NOW,
            scheduler: Scheduler::new(store.clone(), || NOW),
            glances: Glances::default(),
            store,
        });
        let pages = super::pages(&api);
        Self {
            api,
            pages,
            folder,
            _said: heard,
        }
    }

    pub fn actor() -> Actor {
        Actor {
            by: "root@local".into(),
            address: "local".into(),
        }
    }

    pub fn store_file(&self) -> std::path::PathBuf {
        self.folder.path().join("store.db")
    }

    async fn token(&self, name: &str, role: Role) -> String {
        let token = OperatorToken::generate();
        let record = OperatorRecord {
            id: token.id.clone(),
            name: name.to_owned(),
            role,
            secret_hash: hash_secret(&token.secret),
            created_at: NOW,
            expires_at: NOW.plus_ms(60_000),
            revoked: false,
            created_by: "root@local".into(),
            last_used: None,
        };
        self.api.0.keyring.add(record, &Self::actor()).await.unwrap();
        token.to_string()
    }

    /// Each from an address of its own, since one address is listed once a second.
    async fn post(&mut self, from: u8, path: &str, cookie: &str, form: &str) -> Response<Body> {
        let request = Request::post(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.ask(from, request.body(Body::from(form.to_owned())).unwrap()).await
    }

    async fn get(&mut self, path: &str, cookie: &str) -> Response<Body> {
        let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap();
        self.ask(1, request).await
    }

    async fn ask(&mut self, from: u8, mut request: Request<Body>) -> Response<Body> {
        let peer = SocketAddr::from(([10, 0, 0, from], 4_000));
        request.extensions_mut().insert(PeerInfo::of(peer, None));
        self.pages.call(request).await.unwrap()
    }

    /// The session's cookie and the secret of its forms.
    async fn signed_in(&mut self, from: u8, token: &str) -> (String, String) {
        let answer = self.post(from, "/sign-in", "", &format!("token={token}")).await;
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let page = to_bytes(self.get("/now", &cookie).await.into_body(), PAGE_BYTES).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        let secret = page.split("name=\"form_secret\" value=\"").nth(1).unwrap();
        (cookie, secret.split('"').next().unwrap().to_owned())
    }

    /// The audit log once it has so many lines.
    async fn lines(&self, count: usize) -> Vec<AuditEntry> {
        let until = tokio::time::Instant::now() + WITHIN;
        loop {
            let lines = self.api.0.audit.newest(100, None).await.unwrap();
            if lines.len() >= count {
                return lines;
            }
            assert!(tokio::time::Instant::now() < until, "{count} lines are expected: {lines:?}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn sign_ins_and_refused_forms_are_written_down_as_calls_are() {
    let mut world = World::new().await;
    let token = world.token("vic", Role::Viewer).await;
    let (cookie, secret) = world.signed_in(1, &token).await;
    for (from, path, cookie, form) in [
        (2, "/sign-in", "", "token=fot1.nobody.nothing".to_owned()),
        (3, "/sign-in", "", String::new()),
        (4, "/release", cookie.as_str(), format!("form_secret={secret}&reason=x")),
        (5, "/halt", cookie.as_str(), "form_secret=00".to_owned()),
        (6, "/halt", cookie.as_str(), String::new()),
        (7, "/halt", "", format!("form_secret={secret}")),
    ] {
        let status = world.post(from, path, cookie, &form).await.status();
        assert_ne!(status, StatusCode::OK, "{path} {form:?}");
    }
    assert!(!world.api.0.runs.halt_state().engaged, "a refused form halted everything");
    let mut told: Vec<_> = world.lines(7).await.into_iter().map(known_of).collect();
    told.sort();
    let stranger = |from: u8, call: &str| line(from, call, "", AuditOutcome::Refused, "not_authenticated");
    let vic = |from: u8, call: &str| line(from, call, "vic", AuditOutcome::Refused, "forbidden");
    let expected = vec![
        line(1, "Pages/SignIn", "vic", AuditOutcome::Done, ""),
        stranger(2, "Pages/SignIn"),
        stranger(3, "Pages/SignIn"),
        vic(4, "Emergency/Release"),
        vic(5, "Emergency/Halt"),
        vic(6, "Emergency/Halt"),
        stranger(7, "Emergency/Halt"),
    ];
    assert_eq!(told, expected);
    let log = std::fs::read_to_string(world.folder.path().join("audit/audit.jsonl")).unwrap();
    assert!(
        !log.contains(&token) && !log.contains("nobody.nothing"),
        "a token is in the log: {log}"
    );
}

#[tokio::test]
async fn without_a_session_readers_are_led_to_the_door_and_scripts_are_refused() {
    let mut world = World::new().await;
    let page = world.get("/now", "").await;
    assert_eq!(
        (page.status(), &page.headers()[header::LOCATION]),
        (StatusCode::SEE_OTHER, &"/sign-in".parse().unwrap())
    );
    let events = Request::get("/now").header(header::ACCEPT, "text/event-stream");
    let answer = world.ask(1, events.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_bar_leads_to_every_page_that_has_a_name() {
    let mut world = World::new().await;
    let token = world.token("vic", Role::Viewer).await;
    let (cookie, _) = world.signed_in(1, &token).await;
    let page = to_bytes(world.get("/now", &cookie).await.into_body(), PAGE_BYTES).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let bar = page.split("<nav").nth(1).unwrap().split("</nav>").next().unwrap();
    assert!(bar.contains(r#"<a href="/now" aria-current="page">Now</a>"#), "{bar}");
    assert!(!bar.contains('{'), "the bar leads to a page of one thing: {bar}");
    let links = bar.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for path in links {
        let status = world.get(path, &cookie).await.status();
        assert!(status.is_success() || status.is_redirection(), "{path} answers {status}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_said_to_be_old_until_it_can() {
    let mut world = World::new().await;
    let token = world.token("vic", Role::Viewer).await;
    let (cookie, _) = world.signed_in(1, &token).await;
    let mut live = world.get("/now/live", &cookie).await.into_body().into_data_stream();
    assert_eq!(next(&mut live, "middle").await, ["stop"]);
    assert_eq!(next(&mut live, "alive").await, [""; 0]);
    let other = rusqlite::Connection::open(world.folder.path().join("store.db")).unwrap();
    other.execute_batch("ALTER TABLE runs RENAME TO away").unwrap();
    next(&mut live, "stale").await;
    assert_eq!(
        next(&mut live, "stale").await,
        [""; 0],
        "a sign of life came between two reads that failed"
    );
    other.execute_batch("ALTER TABLE away RENAME TO runs").unwrap();
    let between = next(&mut live, "alive").await;
    assert!(between.iter().all(|event| event == "stale"), "{between:?}");
}

/// The events before the next of this kind.
async fn next(live: &mut axum::body::BodyDataStream, wanted: &str) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        let part = tokio::time::timeout(WITHIN, live.next()).await;
        let part = part.unwrap_or_else(|_| panic!("no {wanted} within 10 s, only {before:?}"));
        let text = String::from_utf8(part.expect("the page is followed no more").unwrap().to_vec()).unwrap();
        for event in text.lines().filter_map(|line| line.strip_prefix("event: ")) {
            if event == wanted {
                return before;
            }
            before.push(event.to_owned());
        }
    }
}

fn line(from: u8, call: &str, caller: &str, outcome: AuditOutcome, code: &str) -> [String; 5] {
    [
        format!("10.0.0.{from}:4000"),
        call.into(),
        caller.into(),
        format!("{outcome:?}"),
        code.into(),
    ]
}

fn known_of(entry: AuditEntry) -> [String; 5] {
    let (caller, code) = (entry.caller.unwrap_or_default(), entry.code.unwrap_or_default());
    [entry.address, entry.call, caller, format!("{:?}", entry.outcome), code]
}
