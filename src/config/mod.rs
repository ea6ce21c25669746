//! What may be written in `portolan.toml` and `routes.toml`, and what is meant.
//!
//! [`find_config`] says which file, [`load`] turns it and the routes files that it names into a [`Config`] and a
//! [`crate::route::RouteTable`], and [`Problems`] says everything that is wrong with them at once.

/// Which `portolan.toml`.
mod find;
/// Reads a file whole.
mod read;
/// The text of a file, by line and column.
mod source;
/// A TOML file that is being walked.
mod document;
/// A table of it, key by key.
mod section;
/// `portolan.toml`.
mod daemon_file;
/// Its sockets: paths, modes, owners.
mod socket;
/// Its `[[forward]]`.
mod forward;
/// Its `[registrar]`.
mod registrar;
/// What it means.
mod settings;
/// Its `routes`.
mod routes_list;
/// `routes.toml`.
mod routes_file;
/// The parts of it, which are read side by side.
mod routes_parts;
/// Its hosts and ports.
mod upstream;
/// What it says of dialing and relaying.
mod route_settings;
/// Its `tls`.
mod tls;
// What may be asked where a node is.
mod resolver;
// What a route may name besides itself.
mod context;
/// Where a secret is.
mod secret;
/// The keys of etcd.
mod resolver_etcd;
/// The files together.
mod load;
/// One route that no file has.
mod spec;
/// One route that a fleet shares.
mod shared;
/// What is probably not meant.
mod lints;
/// Users and groups by name.
mod owner;
/// What is wrong.
mod problem;
/// What is wrong, on a terminal.
mod render;
#[cfg(test)]
mod tests;

pub use context::Context;
pub use find::{ConfigNotFound, find_config};
pub use lints::lint_edit;
pub use load::{
    FileCount, LoadedRoutes, check_text, load, load_config, load_routes, load_routes_in_place_of, read_config,
};
pub use owner::{UnknownOwner, resolve_group, resolve_user};
pub use problem::{Place, Problem, Problems, Severity};
pub use resolver::{DiscoveryConfig, ResolverConfig, ResolverKind};
pub use resolver_etcd::EtcdResolver;
pub use routes_file::{Kind, kind_of};
pub use routes_list::{FileNames, RoutesEntry, RoutesGlob, routes_files};
pub use secret::Secret;
pub use settings::{
    AdminConfig, Config, DialConfig, ForwardAddress, ForwardConfig, Limits, LogConfig, LogFormat, LogLevel,
    RegistrarConfig, SocketAccess, SocketConfig,
};
pub use shared::{SharedRules, TableConfig, read_shared, read_shared_json};
pub use socket::Scope;
pub use source::Position;
pub use spec::{read_edit, read_spec};

pub(crate) use problem::plural;
pub(crate) use read::{Stamp, reason};
pub(crate) use render::visible;
