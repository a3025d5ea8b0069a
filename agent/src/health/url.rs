//! The URLs of a service's health, with the host's variables filled in.

use hyper::Uri;

use crate::services::Variables;

/// Why there is no URL to ask. Values of variables may be secrets: none is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("health.{key} = {url:?} names ${{{name}}}, which is not set on this host")]
    Unset { key: &'static str, url: String, name: String },
    #[error("health.{key} = {url:?} has a `${{` that is not a ${{NAME}}")]
    Malformed { key: &'static str, url: String },
    #[error("health.{key} = {url:?} is no http:// URL once its variables are filled in: {why}")]
    NotHttp { key: &'static str, url: String, why: &'static str },
}

/// Puts the value of each `${NAME}` in its place and parses what comes out; `key` of `[health]` has
/// the URL.
pub(super) fn fill_in(
    key: &'static str,
    url: &str,
    variables: &Variables,
) -> Result<Uri, UrlError> {
    let mut filled = String::new();
    let mut rest = url;
    while let Some((before, after)) = rest.split_once("${") {
        let malformed = || UrlError::Malformed { key, url: url.to_owned() };
        let (name, behind) = after.split_once('}').ok_or_else(malformed)?;
        if !crate::services::is_variable_name(name) {
            return Err(malformed());
        }
        let value = variables.get(name).ok_or_else(|| UrlError::Unset {
            key,
            url: url.to_owned(),
            name: name.to_owned(),
        })?;
        filled.push_str(before);
        filled.push_str(value);
        rest = behind;
    }
    filled.push_str(rest);
    let refuse = |why| UrlError::NotHttp { key, url: url.to_owned(), why };
    let uri: Uri = filled.parse().map_err(|_| refuse("it does not parse"))?;
    if uri.scheme_str() != Some("http") {
        return Err(refuse("it does not start with http://"));
    }
    let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(refuse("it names no host, or a user"));
    }
    // `http://host:99999` parses, with no port.
    if authority.port_u16().is_none() && authority.as_str().len() != authority.host().len() {
        return Err(refuse("its port is not 1 to 65535"));
    }
    Ok(uri)
}

/// Where to connect to.
pub(super) fn host_port(uri: &Uri) -> (&str, u16) {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), uri.port_u16().unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables::from([("LISTEN", "127.0.0.1:8080"), ("PATH_", "/ok"), ("SECRET", "no host")])
    }

    #[test]
    fn filled_in_table() {
        let cases = [
            ("http://localhost/healthz", "http://localhost/healthz", ("localhost", 80)),
            ("http://${LISTEN}/healthz", "http://127.0.0.1:8080/healthz", ("127.0.0.1", 8080)),
            ("http://${LISTEN}${PATH_}?a=$b", "http://127.0.0.1:8080/ok?a=$b", ("127.0.0.1", 8080)),
            ("http://[::1]:81/", "http://[::1]:81/", ("::1", 81)),
        ];
        for (url, expected, connect) in cases {
            let uri = fill_in("http", url, &variables()).unwrap();
            assert_eq!(uri.to_string(), expected);
            assert_eq!(host_port(&uri), connect, "{url}");
        }
    }

    #[test]
    fn refused_table() {
        let cases = [
            ("http://${PORT}/", "names ${PORT}, which is not set on this host"),
            ("http://${LISTEN/", "has a `${` that is not a ${NAME}"),
            ("http://${}/", "has a `${` that is not a ${NAME}"),
            ("http://${A B}/", "has a `${` that is not a ${NAME}"),
            ("http://${SECRET}/", "it does not parse"),
            ("https://localhost/", "it does not start with http://"),
            ("localhost:80", "it does not start with http://"),
            ("http:///healthz", "it does not parse"),
            ("http://me@localhost/", "it names no host, or a user"),
            ("http://localhost:99999/", "its port is not 1 to 65535"),
        ];
        for (url, expected) in cases {
            let error = fill_in("http", url, &variables()).unwrap_err().to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("no host\""), "{url}: values are never shown: {error}");
        }
    }
}
