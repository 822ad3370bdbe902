//! URLs of requests: a path that stays where it was sent, and users in a URL that nobody gets to see.

use reqwest::Url;

use crate::capability::Login;
use crate::secret::Secret;

/// The longest path with its query, in bytes.
const LONGEST_PATH: usize = 8 << 10;
/// How often a path may have been escaped, one time in the other.
const LAYERS: usize = 3;

/// A path below an origin, or below a base such as `https://h/api`. What a server or a proxy might read as a way
/// out of the base is refused, not resolved.
pub(super) fn join(base: &str, path: &str) -> Result<Url, String> {
    let below = Url::parse(base).map_err(|error| format!("{}: {error}", without_user(base)))?;
    if !matches!(below.scheme(), "http" | "https") {
        return Err(format!("{} is neither http nor https", without_user(base)));
    }
    if let Some(problem) = path_problem(path) {
        return Err(problem);
    }
    let whole = Url::parse(&format!("{}{path}", base.trim_end_matches('/')))
        .map_err(|error| format!("{}: {error}", shown(path)))?;
    let stays =
        whole.origin() == below.origin() && whole.path().starts_with(below.path().trim_end_matches('/'));
    if stays {
        Ok(whole)
    } else {
        Err(format!("the path {} leads out of {}", shown(path), without_user(base)))
    }
}

fn path_problem(path: &str) -> Option<String> {
    if path.len() > LONGEST_PATH {
        return Some(format!("the path has {} bytes; the limit is {LONGEST_PATH}", path.len()));
    }
    if !path.starts_with('/') {
        return Some(format!("the path {} does not begin with `/`", shown(path)));
    }
    // URL parsers leave some of these out, and so join what stood apart.
    if path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Some(format!("the path {} has a space or a control character in it", shown(path)));
    }
    if path.contains('#') {
        return Some(format!("the path {} has a `#` in it; write it as %23", shown(path)));
    }
    let way = path.split('?').next().unwrap_or_default();
    if way.starts_with("//") {
        return Some(format!("the path {} begins with `//`, which would address another host", shown(path)));
    }
    let mut read = way.to_owned();
    for _ in 0..=LAYERS {
        if read.contains('\\') {
            return Some(format!("the path {} has a `\\` in it", shown(path)));
        }
        // Some servers leave out what stands behind a `;` in a segment.
        let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if read.split('/').any(dots) {
            return Some(format!("the path {} has `.` or `..` in it, which leads elsewhere", shown(path)));
        }
        let unescaped = unescaped(&read);
        if unescaped == read {
            break;
        }
        read = unescaped;
    }
    None
}

/// A path may be as long as a plugin likes.
fn shown(path: &str) -> String {
    let mut start: String = path.chars().take(200).collect();
    if start.len() < path.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// With `%2e` and its like read once.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|c| c.is_ascii_hexdigit()))
        });
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A URL without the user and the password that it may hold.
pub fn without_user(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}{host}{path}")
}

/// Takes the user and the password out of a URL that is right otherwise.
pub fn split_login(url: &str) -> (String, Option<Login>) {
    let login = Url::parse(url).ok().and_then(|parsed| {
        let is_there = !parsed.username().is_empty() || parsed.password().is_some();
        is_there.then(|| Login {
            user: unescaped(parsed.username()),
            password: Secret::new(unescaped(parsed.password().unwrap_or_default())),
        })
    });
    (without_user(url), login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_base() {
        let check = |base: &str, path: &str, expect: Result<&str, &str>| match (join(base, path), expect) {
            (Ok(url), Ok(expect)) => assert_eq!(url.as_str(), expect),
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{path}: {problem}"),
            (got, expect) => panic!("{base} {path}: {got:?} where {expect:?} was expected"),
        };
        check("http://h:1", "/a?b=c", Ok("http://h:1/a?b=c"));
        check("http://h:1/api/", "/droplets", Ok("http://h:1/api/droplets"));
        check("http://h:1/api", "/droplets/name/a%2Fb", Ok("http://h:1/api/droplets/name/a%2Fb"));
        check("http://h:1/api", "/a?next=/../b%2e%2e", Ok("http://h:1/api/a?next=/../b%2e%2e"));
        check("http://h:1/api", "/..a/b..", Ok("http://h:1/api/..a/b.."));
        check("https://h", "/", Ok("https://h/"));
        check("http://[::1]:8001", "/health", Ok("http://[::1]:8001/health"));
        check("http://h", "/@other/", Ok("http://h/@other/"));
        for out in [
            "/../admin",
            "/..",
            "/droplets/../../admin",
            "/droplets/./x",
            "/%2e%2e/admin",
            "/%2E%2e/admin",
            "/.%2e/admin",
            "/a/%2e%2e%2f%2e%2e/admin",
            "/%252e%252e/admin",
            "/%25252e./admin",
            "/..;/admin",
            "/..;v=1/admin",
        ] {
            check("http://h/api", out, Err("leads elsewhere"));
        }
        check("http://h/api", "/..\\admin", Err("`\\`"));
        check("http://h/api", "/a/%5c..%5cadmin", Err("`\\`"));
        check("http://h/api", "/.\t./admin", Err("control character"));
        check("http://h/api", "/.\n./admin", Err("control character"));
        check("http://h/api", "/a b", Err("space"));
        check("http://h/api", "/a#/../admin", Err("%23"));
        check("http://h", "//other/x", Err("another host"));
        check("http://h", "/\\other/x", Err("`\\`"));
        check("http://h", "@other/", Err("begin"));
        check("http://h", ":99/", Err("begin"));
        check("http://h", "", Err("begin"));
        check("http://h", &format!("/{}", "x".repeat(9000)), Err("the limit is 8192"));
        check("ftp://h", "/", Err("neither"));
        check("no url", "/", Err("no url"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let check = |origin: &str, expect: &str| assert_eq!(without_user(origin), expect);
        check("https://user:p@ss@h:1/api", "https://h:1/api");
        check("https://user:pass@h?x=a@b", "https://h?x=a@b");
        check("https://h/a@b", "https://h/a@b");
        check("http://[::1]:8001", "http://[::1]:8001");
        check("user:pass@h:1", "h:1");
        check("registry:", "registry:");
    }

    #[test]
    fn a_login_is_taken_out_of_a_url() {
        let check = |url: &str, bare: &str, expect: Option<(&str, &str)>| {
            let expect = expect
                .map(|(user, password)| Login { user: user.to_owned(), password: Secret::new(password) });
            assert_eq!(split_login(url), (bare.to_owned(), expect));
        };
        check("https://ann:p%40ss%25@h:1/api", "https://h:1/api", Some(("ann", "p@ss%")));
        check("https://token@h", "https://h", Some(("token", "")));
        check("https://:pw@h", "https://h", Some(("", "pw")));
        check("https://h/a@b", "https://h/a@b", None);
    }
}
