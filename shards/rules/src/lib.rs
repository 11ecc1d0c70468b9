//! The rules about topics: which clients may publish and read them. Names, topics and filters go in, decisions come out.
//!
//! A [`RulesBuilder`] collects roles, users and mosquitto's file of rules, and makes [`Rules`] of them: one flat trie for each role,
//! read-only, shared by all shards. A client holds a **set of roles** by its number ([`Rules::set_of`]).
//!
//! Invariants worth naming:
//! - Roles are a union, and a deny wins in whatever order rules stand.
//! - A name is compared as text within a level, so no wildcard, separator or `$` in a name acts.
//! - A leading wildcard or placeholder does not cover a topic that begins with `$` in a grant, and does in a deny.
//! - A look-up visits each node of a trie at most once, so its work is bounded by the rules and not by the peer. Peers add nothing
//!   to a table, so they cannot construct collisions.
//! - A number of a set means the same on every shard for the life of its `Rules`.
//!
//! ```
//! use rules::{Access, Kind, Names, Origin, RulesBuilder};
//!
//! let mut builder = RulesBuilder::new(Access::Deny);
//! let device = builder.role("device");
//! builder.add(device, Kind::Publish, "devices/%u/up/#", Origin::default()).unwrap();
//! builder.user("alice", &["device"]).unwrap();
//! let rules = builder.build();
//!
//! let set = rules.set_of(Some("alice"), &[]).unwrap();
//! let alice = Names { client_id: "c", user: "alice" };
//! assert!(rules.may_publish(set, alice, "devices/alice/up/t"));
//! assert!(!rules.may_publish(set, alice, "devices/bob/up/t"));
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![expect(clippy::similar_names, reason = "rules and roles are the words of the field")]

extern crate alloc;

mod acl;
mod builder;
mod level;
mod rules;
mod sets;
mod trie;

pub use acl::{AclFault, AclProblem};
pub use builder::{RoleId, RuleFault, RulesBuilder, UserFault};
pub use level::Names;
pub use rules::{Access, Coverage, Decision, Kind, NameFault, Origin, RuleView, Rules};
pub use sets::{ROLES_PER_SET_MAX, SetFault};
