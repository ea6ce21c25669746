//! All [`Trust`]s of a table, and their reload: what did not change stays, and what is bad leaves the old in force.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;

use super::Trust;
use super::sources::{Sources, SystemRoots};
use crate::route::{Identity, TlsPolicy};
use crate::watch::Print;

/// One [`Trust`] for each distinct [`TlsPolicy`] of a table.
///
/// A reload makes a new one beside the one in force, opens every policy in it, and swaps it in together with the table.
#[derive(Debug)]
pub struct Trusts {
    trusts: HashMap<Arc<TlsPolicy>, Arc<Trust>>,
    /// Those in force. Not kept alive by us: what is dropped from the table leaves the memory with the old table.
    previous: HashMap<Arc<TlsPolicy>, Weak<Trust>>,
    /// What the system trusts, once a policy has asked for it; and what it trusted before.
    system: Option<SystemRoots>,
    previous_system: Option<SystemRoots>,
    /// What each file was before it was read.
    files: BTreeMap<PathBuf, Print>,
    /// How many there were when those that nobody uses were let go last.
    used: usize,
    provider: Arc<CryptoProvider>,
}

/// What came of opening a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The policy is new.
    Fresh,
    /// Nothing changed, or the policy was opened in these `Trusts` before: the same Trust, with its TLS sessions.
    Kept,
    /// The files hold something else than before: a new Trust, without the old TLS sessions.
    Renewed,
    /// The files are bad now: the Trust from before stays in force. Somebody should be told.
    KeptOld(TrustError),
}

/// Why a policy cannot be opened; its `Display` is a sentence for people, without the place of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustError {
    /// The key of `tls` that is to blame: "ca", "cert", "key", "server_name", or "tls" for the system's authorities.
    pub key: &'static str,
    /// The file that is to blame, if it is one.
    pub path: Option<PathBuf>,
    /// What is wrong and what to do; it goes on after the name of the file.
    pub message: String,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "`{}` {}", path.display(), self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for TrustError {}

impl Trusts {
    /// No Trust yet. `previous` are those in force, which must live until the last policy is opened here.
    pub fn new(previous: Option<&Self>) -> Self {
        let weak = |(policy, trust): (&Arc<TlsPolicy>, &Arc<Trust>)| (Arc::clone(policy), Arc::downgrade(trust));
        Self {
            trusts: HashMap::new(),
            previous: previous.map(|previous| previous.trusts.iter().map(weak).collect()).unwrap_or_default(),
            system: None,
            previous_system: previous.and_then(|previous| previous.system.clone()),
            files: BTreeMap::new(),
            used: 0,
            provider: Arc::new(aws_lc_rs::default_provider()),
        }
    }

    /// The same Trusts, in which more policies can be opened.
    pub fn extended(&self) -> Self {
        Self {
            trusts: self.trusts.clone(),
            previous: HashMap::new(),
            system: self.system.clone(),
            previous_system: None,
            files: self.files.clone(),
            used: self.used,
            provider: Arc::clone(&self.provider),
        }
    }

    /// Whether it is time to look which of them are still used: a look costs as much as the table is large.
    pub fn is_grown(&self) -> bool {
        self.trusts.len() > 2 * self.used + Self::SPARE
    }

    /// Lets go of all others, and of the files that they alone have named.
    pub fn keep_only(&mut self, used: &HashSet<&TlsPolicy>) {
        let gone: HashSet<PathBuf> = self
            .trusts
            .keys()
            .filter(|policy| !used.contains(&***policy))
            .flat_map(|policy| named_files(policy).map(Path::to_owned).collect::<Vec<_>>())
            .collect();
        self.trusts.retain(|policy, _| used.contains(&**policy));
        let still: HashSet<&Path> = self.trusts.keys().flat_map(|policy| named_files(policy)).collect();
        self.files.retain(|file, _| !gone.contains(file) || still.contains(file.as_path()));
        self.used = self.trusts.len();
    }

    /// So many more than are used may be kept.
    const SPARE: usize = 100;

    /// Reads the files of a policy and makes its Trust. Blocks on the file system: for the builder's thread.
    ///
    /// An error means that there is no Trust for this policy, neither new nor old.
    pub fn open(&mut self, policy: &Arc<TlsPolicy>) -> Result<Opened, TrustError> {
        if self.trusts.contains_key(policy) {
            return Ok(Opened::Kept);
        }
        for file in named_files(policy) {
            self.files.entry(file.to_owned()).or_insert_with(|| Print::of(file));
        }
        check_server_name(policy)?;
        let old = self.previous.get(policy).and_then(Weak::upgrade);
        let (trust, opened) = match (Sources::read(policy, || self.system_roots()), old) {
            (Ok(sources), Some(old)) if sources.fingerprint == old.fingerprint => (old, Opened::Kept),
            (sources, old) => match (sources.and_then(|sources| sources.trust(policy, &self.provider)), old) {
                (Ok(new), None) => (Arc::new(new), Opened::Fresh),
                (Ok(new), Some(_replaced)) => (Arc::new(new), Opened::Renewed),
                (Err(error), Some(old)) => (old, Opened::KeptOld(error)),
                (Err(error), None) => return Err(error),
            },
        };
        self.trusts.insert(Arc::clone(policy), trust);
        Ok(opened)
    }

    /// The Trust of a policy that was opened.
    pub fn get(&self, policy: &TlsPolicy) -> Option<&Arc<Trust>> {
        self.trusts.get(policy)
    }

    /// What to watch: every file that a policy named which was asked to be opened, the bad ones too, each once, with what
    /// it was before it was read. The system's authorities are not among them.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Print)> {
        self.files.iter().map(|(path, print)| (path.as_path(), print))
    }

    /// What the system trusts, read once; the copy from before serves on when nothing changed.
    fn system_roots(&mut self) -> Result<SystemRoots, TrustError> {
        if let Some(system) = &self.system {
            return Ok(system.clone());
        }
        let read = SystemRoots::load()?;
        let system = match self.previous_system.take() {
            Some(previous) if previous.fingerprint == read.fingerprint => previous,
            _ => read,
        };
        Ok(self.system.insert(system).clone())
    }
}

fn named_files(policy: &TlsPolicy) -> impl Iterator<Item = &Path> {
    let identity = policy.identity.iter().flat_map(|Identity { cert, key }| [cert, key]);
    policy.ca.iter().chain(identity).map(PathBuf::as_path)
}

fn check_server_name(policy: &TlsPolicy) -> Result<(), TrustError> {
    let Some(name) = &policy.server_name else { return Ok(()) };
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(()),
        Err(_invalid) => Err(TrustError {
            key: "server_name",
            path: None,
            message: format!(
                "`{}` is neither a DNS name nor an address: write what the peer's certificate bears, without a port",
                name.escape_debug()
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::tls::tests::Lab;

    #[test]
    fn nothing_of_the_table_before_is_kept_alive() {
        let lab = Lab::new();
        let policy = Arc::new(lab.policy());
        let mut first = Trusts::new(None);
        first.open(&policy).unwrap();
        let mut second = Trusts::new(Some(&first));
        let gone = Arc::downgrade(first.get(&policy).unwrap());
        drop(first);
        assert!(gone.upgrade().is_none());
        assert_eq!(second.open(&policy), Ok(Opened::Fresh));
    }

    #[test]
    fn what_nobody_uses_is_let_go_with_its_files() {
        let lab = Lab::new();
        let (used, unused) =
            (Arc::new(lab.policy()), Arc::new(TlsPolicy { identity: Some(lab.client()), ..lab.policy() }));
        let mut trusts = Trusts::new(None);
        trusts.open(&used).unwrap();
        trusts.open(&unused).unwrap();
        trusts.keep_only(&HashSet::from([&*used]));
        assert!(trusts.get(&used).is_some() && trusts.get(&unused).is_none());
        assert_eq!(trusts.files().map(|(path, _)| path.file_name().unwrap()).collect::<Vec<_>>(), ["ca.pem"]);
    }

    #[test]
    fn every_named_file_is_watched_the_bad_ones_too() {
        let lab = Lab::new();
        let mut trusts = Trusts::new(None);
        trusts.open(&Arc::new(TlsPolicy { identity: Some(lab.client()), ..lab.policy() })).unwrap();
        trusts.open(&Arc::new(lab.policy())).unwrap();
        trusts.open(&Arc::new(TlsPolicy { ca: Some(lab.path().join("none.pem")), ..lab.policy() })).unwrap_err();
        let names: Vec<_> = trusts.files().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["ca.pem", "client.key", "client.pem", "none.pem"]);
    }
}
