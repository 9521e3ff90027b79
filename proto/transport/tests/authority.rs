//! How far an authority reaches: until its end and no further, and why it is not narrowed by names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto_model::id::HostName;
use proto_model::role::Role;
use proto_model::time::Timestamp;
use proto_transport::{Admission, Authority, Limits, ServerTls, Trust, connect, csr, incoming, not_after_of};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;

const DAY_MS: u64 = 86_400_000;
const CONTROLLER: &str = "fracas://controller";
/// The extension of name constraints.
const NAME_CONSTRAINTS: [u64; 4] = [2, 5, 29, 30];

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

#[test]
fn nothing_outlives_the_authority_and_after_its_end_it_vouches_for_nobody() {
    let now = now();
    let authority = Authority::make(10 * DAY_MS, now).unwrap();
    let ends = authority.validity().1;
    assert_eq!(ends.0 / 1_000, now.plus_ms(10 * DAY_MS).0 / 1_000);
    let (_, request) = csr().unwrap();
    let web = HostName::parse("web").unwrap();
    let end = |at: Timestamp| not_after_of(&authority.issue_host(&request, &web, at, 7 * DAY_MS).unwrap()).unwrap();
    assert!(end(now) < ends, "a short life is not made longer");
    assert_eq!(end(now.plus_ms(5 * DAY_MS)), ends);
    let late = ends.plus_ms(1);
    let refused = [
        authority.issue_host(&request, &web, late, DAY_MS).err(),
        authority.issue_operator("ann", Role::Viewer, late, DAY_MS).err(),
    ];
    for error in refused {
        let error = error.unwrap().to_string();
        assert!(error.contains("ended at") && error.contains("docs/authority.md"), "{error}");
    }
    assert!(
        authority.issue_server(late, DAY_MS).is_ok(),
        "its successor is made while the listeners are up"
    );
}

#[test]
fn an_authority_warns_of_its_end_in_time_and_says_when_it_is_over() {
    for (life_days, quiet_until) in [(1_825, 1_825 - 91), (100, 74)] {
        let made = Timestamp(1_700_000_000_000);
        let authority = Authority::make(life_days * DAY_MS, made).unwrap();
        let after = |days: u64| authority.warning(made.plus_ms(days * DAY_MS));
        assert_eq!(after(quiet_until - 2), None, "{life_days} days");
        let soon = after(life_days - 20).unwrap();
        assert!(soon.contains("ends in 20 days"), "{soon}");
        assert!(after(life_days + 1).unwrap().contains("ended at"));
    }
}

/// A root of somebody else's making, with one certificate for a controller, good until 4096.
fn root(narrow: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, CertificateDer<'static>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    narrow(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let mut of_controller = CertificateParams::new(vec!["ctl.example".to_owned()]).unwrap();
    of_controller.subject_alt_names.push(SanType::URI(CONTROLLER.try_into().unwrap()));
    of_controller.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let signed = of_controller.signed_by(&key, &issuer).unwrap();
    (certificate.der().clone(), signed.der().clone(), key.serialize_pem())
}

async fn believed(narrow: impl FnOnce(&mut CertificateParams)) -> bool {
    let (root, certificate, key) = root(narrow);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = ServerTls::new(std::slice::from_ref(&root), certificate, &key).unwrap();
    let _incoming = incoming(listener, tls, &Admission::new(Limits::default()));
    connect(&address, Trust::Authorities(vec![root]), None).await.is_ok()
}

#[tokio::test]
async fn an_authority_that_has_ended_is_believed_by_no_host_whatever_it_signed() {
    assert!(believed(|_| ()).await);
    let over = |params: &mut CertificateParams| {
        let until = u64::try_from(now().0).unwrap() - 60_000;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(until);
    };
    assert!(!believed(over).await);
}

/// The verifier refuses every URI under a constraint of URIs, and identities are URIs; so it holds DNS names alone, which change in the
/// life of an authority. See docs/adr/0012.
#[tokio::test]
async fn constraints_by_uri_shut_out_our_own_identities_and_those_by_dns_name_every_new_name() {
    let by_dns = |name: &'static str| {
        move |params: &mut CertificateParams| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName(name.to_owned())],
                excluded_subtrees: Vec::new(),
            });
        }
    };
    assert!(believed(by_dns("example")).await);
    assert!(!believed(by_dns("corp")).await, "a controller that moves to another domain is lost");
    let by_uri = |params: &mut CertificateParams| {
        // SEQUENCE { [0] { SEQUENCE { [6] "controller" } } }
        let mut bytes = vec![0x30, 0x10, 0xa0, 0x0e, 0x30, 0x0c, 0x86, 0x0a];
        bytes.extend(b"controller");
        let mut extension = CustomExtension::from_oid_content(&NAME_CONSTRAINTS, bytes);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    assert!(
        !believed(by_uri).await,
        "the verifier learned to constrain URIs: narrow the authority by them"
    );
}
