//! `[resolver.NAME]` of type etcd.

use toml::Spanned;

use super::problem::Problem;
use super::secret::secret;
use super::section::{Keys, Section, brief};
use super::shared::{TableConfig, table};
use crate::etcd::{EtcdConfig, EtcdTls};

/// `[resolver.NAME]` of type etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdResolver {
    /// Where it is, and who asks.
    pub etcd: EtcdConfig,
    /// What the keys of the nodes begin with.
    pub prefix: String,
    /// The table that a fleet shares through it.
    pub table: TableConfig,
}

pub(super) const KEYS: Keys = Keys {
    heading: "[resolver.NAME] of type etcd",
    known: &[
        "type",
        "endpoints",
        "cluster",
        "prefix",
        "user",
        "password",
        "tls",
        "table",
        "table_files",
        "table_insecure",
        "answer_tls",
        "timeout",
        "ttl",
        "negative_ttl",
        "stale",
        "names",
    ],
    later: &[],
};

const TLS_KEYS: Keys = Keys { heading: "`tls`", known: &["ca", "cert", "key", "server_name"], later: &[] };

/// etcd and what its keys begin with; `None` when something of that is wrong.
pub(super) fn etcd(section: &Section<'_>, name: &str) -> Option<EtcdResolver> {
    if !cfg!(feature = "etcd") {
        let problem = Problem::error("this portolan was built without etcd");
        section.report(section.key_span("type"), problem.help("build it with `--features etcd`, which needs protoc"));
        return None;
    }
    if !section.has("endpoints") {
        let problem = Problem::error(format!("[resolver.{}] has no `endpoints`", brief(name)));
        let help = "write where etcd is: endpoints = ['http://127.0.0.1:2379']";
        section.document().report_missing(section.span(), problem.help(help));
    }
    let (tls, user, prefix) = (tls(section), user(section), prefix(section));
    let endpoints = endpoints(section, tls.is_some())?;
    Some(EtcdResolver { etcd: EtcdConfig { endpoints, user, tls }, prefix, table: table(section) })
}

fn endpoints(section: &Section<'_>, has_tls: bool) -> Option<Vec<String>> {
    let texts = section.texts("endpoints")?;
    let check = |text: &Spanned<&str>| {
        let (scheme, rest) = text.get_ref().split_once("://").unwrap_or_default();
        let wanted = if has_tls { "https" } else { "http" };
        let is_place = !rest.is_empty() && !rest.contains(['/', '?', '#', ' ', '@']);
        let message = match scheme {
            "http" | "https" if is_place && (scheme == wanted || !has_tls) => {
                return Some((*text.get_ref()).to_owned());
            }
            "http" if is_place => format!("`{}` is not TLS, which `tls` says it is", brief(text.get_ref())),
            _ => format!("`endpoints` has \"{}\", which is no place of etcd", brief(text.get_ref())),
        };
        let help = format!("write '{wanted}://host:2379'");
        section.report(text.span(), Problem::error(message).help(help));
        None
    };
    let endpoints: Vec<_> = texts.iter().filter_map(check).collect();
    (endpoints.len() == texts.len()).then_some(endpoints)
}

fn user(section: &Section<'_>) -> Option<(String, super::Secret)> {
    for (one, other) in [("user", "password"), ("password", "user")] {
        if section.has(one) && !section.has(other) {
            let problem = Problem::error(format!("`{one}` is written without `{other}`"));
            section.document().report_missing(section.key_span(one), problem.help(format!("add `{other}`")));
        }
    }
    let (user, password) = (section.line("user"), secret(section, "password"));
    Some(((*user?.get_ref()).to_owned(), password?))
}

/// What Ergo's registrar puts before the names of a cluster's nodes, unless another prefix is written.
fn prefix(section: &Section<'_>) -> String {
    if section.has("prefix") && section.has("cluster") {
        let problem = Problem::error("`cluster` has no effect beside `prefix`");
        section.report(section.key_span("cluster"), problem.help("remove one of the two"));
    }
    let cluster = section.line("cluster").map_or("default", |cluster| cluster.get_ref());
    let ergo = || format!("services/ergo/cluster/{cluster}/routes/nodes/");
    section.line("prefix").map_or_else(ergo, |prefix| (*prefix.get_ref()).to_owned())
}

fn tls(section: &Section<'_>) -> Option<EtcdTls> {
    let tls = section.section("tls", &TLS_KEYS)?;
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if tls.has(one) && !tls.has(other) {
            let problem = Problem::error(format!("`{one}` is written without `{other}`"));
            tls.document().report_missing(tls.key_span(one), problem.help(format!("add `{other} = 'file.pem'`")));
        }
    }
    let path = |key: &str| tls.path(key).map(Spanned::into_inner);
    let server_name = tls.text("server_name").map(|name| (*name.get_ref()).to_owned());
    Some(EtcdTls { ca: path("ca"), identity: path("cert").zip(path("key")), server_name })
}
