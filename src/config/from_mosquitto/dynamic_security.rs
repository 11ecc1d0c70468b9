//! The state of mosquitto's plugin dynamic-security: clients, groups and roles.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::super::value::quote;
use super::{Import, one_line};

impl Import<'_> {
    /// Takes over the clients as users with passwords, groups as roles of their members, and roles.
    pub(super) fn take_dynamic_security(&mut self, json: &Value) {
        let groups: BTreeMap<&str, Vec<String>> = array(json, "groups")
            .filter_map(|group| Some((text(group, "groupname")?, role_names(group))))
            .collect();
        for role in array(json, "roles") {
            self.take_role(role);
        }
        for client in array(json, "clients") {
            self.take_client(client, &groups);
        }
        self.take_defaults(json, &groups);
    }

    fn take_role(&mut self, role: &Value) {
        let Some(name) = text(role, "rolename") else { return };
        let (mut publish, mut subscribe, mut deny) = (Vec::new(), Vec::new(), Vec::new());
        for acl in array(role, "acls") {
            let (Some(kind), Some(topic)) = (text(acl, "acltype"), text(acl, "topic")) else { continue };
            let allowed = acl.get("allow").and_then(Value::as_bool).unwrap_or_default();
            let list = match (kind, allowed) {
                ("publishClientSend", true) => &mut publish,
                ("subscribeLiteral" | "subscribePattern", true) => &mut subscribe,
                // To receive, a client has to subscribe first; and it may always unsubscribe.
                (_, true) => continue,
                (_, false) => &mut deny,
            };
            if !allowed {
                self.report.push(format!(
                    "role {name:?}: a refusal of {kind} for {topic:?} is written as deny, which holds for publishing and \
                     receiving, whatever its priority"
                ));
            }
            let topic = quote(topic);
            if !list.contains(&topic) {
                list.push(topic);
            }
        }
        let _ = writeln!(self.tables, "\n[role.{}]", quote(name));
        for (key, list) in [("publish", publish), ("subscribe", subscribe), ("deny", deny)] {
            if !list.is_empty() {
                let _ = writeln!(self.tables, "{key} = [{}]", list.join(", "));
            }
        }
        self.report.push(format!("role {name:?}: taken over"));
    }

    fn take_client(&mut self, client: &Value, groups: &BTreeMap<&str, Vec<String>>) {
        let Some(name) = text(client, "username") else { return };
        if name.contains([':', '\n', '\r']) {
            self.report.push(format!("client {name:?}: NOT TAKEN OVER: a name cannot contain a colon"));
            return;
        }
        if client.get("disabled").and_then(Value::as_bool) == Some(true) {
            self.report.push(format!("client {name:?}: NOT TAKEN OVER: it is disabled"));
            return;
        }
        let mut roles = role_names(client);
        for group in array(client, "groups").filter_map(|group| text(group, "groupname")) {
            for role in groups.get(group).into_iter().flatten() {
                if !roles.contains(role) {
                    roles.push(role.clone());
                }
            }
        }
        let quoted: Vec<String> = roles.iter().map(|role| quote(role)).collect();
        let _ = writeln!(self.tables, "\n[user.{}]\nroles = [{}]", quote(name), quoted.join(", "));
        let hash = (
            text(client, "password"),
            text(client, "salt"),
            client.get("iterations").and_then(Value::as_u64),
        );
        let verdict = if let (Some(password), Some(salt), Some(iterations)) = hash {
            let _ = writeln!(self.passwords, "{name}:$7${iterations}${salt}${password}");
            "taken over with its password"
        } else {
            "taken over without a password; set one by `mqtt-broker user passwd`"
        };
        self.report.push(format!("client {name:?}: {verdict}"));
        if text(client, "clientid").is_some() {
            self.report
                .push(format!("client {name:?}: its client identifier is not demanded; use %c in its roles"));
        }
    }

    fn take_defaults(&mut self, json: &Value, groups: &BTreeMap<&str, Vec<String>>) {
        let anonymous = json.get("anonymousGroup").and_then(|group| text(group, "groupname"));
        let roles = anonymous.and_then(|group| groups.get(group)).into_iter().flatten();
        self.roles_anonymous = roles.map(|role| quote(role)).collect();
        for (kind, allowed) in json.get("defaultACLAccess").and_then(Value::as_object).into_iter().flatten() {
            let is_ours = match kind.as_str() {
                "publishClientSend" | "subscribe" => *allowed == Value::Bool(false),
                _ => true,
            };
            if !is_ours {
                self.report.push(format!(
                    "defaultACLAccess {}: NOT TAKEN OVER: what no role names is denied; give a role of every client by \
                     roles in [rules]",
                    one_line(kind)
                ));
            }
        }
    }
}

fn array<'a>(json: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    json.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Value::as_str)
}

fn role_names(json: &Value) -> Vec<String> {
    array(json, "roles").filter_map(|role| text(role, "rolename")).map(str::to_owned).collect()
}
