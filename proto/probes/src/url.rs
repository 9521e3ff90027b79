//! URLs as probes take them: a scheme, a host, and neither a name nor a password, which would be stored and shown with the plan.

use proto_model::problem::Problem;

/// The URL itself is not repeated: what is said here is kept and shown.
const USERINFO: &str = "the URL holds a user name or a password, which would be stored and shown with the plan";
const FORM: &str = "http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, without USER:PASSWORD@";

/// What is wrong with the URL at this path.
pub(crate) fn problem(path: &str, url: &str) -> Option<Problem> {
    let authority = authority(url);
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Some(Problem::new(path, USERINFO).allowed(FORM));
    }
    let named = authority.is_some_and(|host| !host.is_empty() && !host.starts_with(':'));
    if named && !url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    Some(Problem::new(path, format!("{url:?} is not a URL")).allowed("such as http://10.0.0.5:8080/health"))
}

/// What is between the scheme and the path.
pub(crate) fn authority(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.and_then(|rest| rest.split(['/', '?', '#']).next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_no_person() {
        for fine in ["http://a", "https://a:8443/x?user=a@b", "http://[fd00::1]:80/"] {
            assert_eq!(problem("params.url", fine), None, "{fine}");
        }
        for wrong in ["a", "ftp://a/", "http://", "http://:80/", "http://a b/"] {
            assert!(problem("params.url", wrong).is_some(), "{wrong}");
        }
        let said = problem("params.url", "http://ann:hunter2@a/").unwrap().to_string();
        assert!(said.contains("without USER:PASSWORD@") && !said.contains("hunter2"), "{said}");
    }
}
