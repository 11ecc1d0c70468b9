//! Names in headers and documents: what stands in backticks or behind a link exists, and "Knows no X" is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::figure::Figure;
use crate::house::parsed::{self, File};
use crate::house::paths::imported;
use crate::prose::documents;
use crate::sources::{Source, root, sources};

/// Folders of crates, with a file that is parsed for what it defines.
const CRATES: [&str; 9] = [
    "src",
    "shards/engine",
    "shards/rules",
    "shards/wire",
    "shards/ring",
    "shards/journal",
    "shards/websocket",
    "tests",
    "bench",
];
/// Where a path in a document may begin, beside the document's own folder.
const SEARCH: [&str; 7] = ["", "src", "shards", "shards/engine/src", "tests", "deploy", "bench"];
/// Paths that begin so name what a build or a running broker makes, or a file of the machine that it runs on.
const ELSEWHERE: [&str; 9] = ["target", "dist", "manual", "data", "logs", "config", "proc", "load", "shard"];
/// Names that no source defines: of the language, of crates and of the system.
const FOREIGN: [&str; 8] = ["no_std", "std", "core", "alloc", "sync", "main", "self", "epoll"];

/// Modules that are about a thing and are not called like it.
const ABOUT: [(&str, &[&str]); 2] =
    [("shard", &["mesh", "topology", "interest"]), ("delivery", &["deliver", "fan_out"])];

/// The names that sources define.
struct Defined {
    /// By crate: its modules, as files and folders.
    modules: BTreeMap<&'static str, BTreeSet<String>>,
    /// By file: items, methods, fields and variants.
    items: BTreeMap<String, BTreeSet<String>>,
    /// Crates and dependencies, and what is foreign.
    crates: BTreeSet<String>,
}

impl Defined {
    /// All sources are parsed once.
    fn get() -> &'static Self {
        static DEFINED: OnceLock<Defined> = OnceLock::new();
        DEFINED.get_or_init(Self::read)
    }

    fn read() -> Self {
        let mut defined = Self { modules: BTreeMap::new(), items: BTreeMap::new(), crates: BTreeSet::new() };
        defined.crates.extend(FOREIGN.map(str::to_owned));
        for folder in CRATES {
            let files = sources(&[folder], "rs");
            let modules = defined.modules.entry(folder).or_default();
            for source in files {
                modules.extend(source.path.trim_end_matches(".rs").split('/').map(str::to_owned));
                let items = definitions(&source);
                defined.items.insert(source.path, items);
            }
        }
        for source in sources(&[""], "toml") {
            let names = source.text.lines().filter_map(|line| line.split(['=', '.']).next());
            defined.crates.extend(names.map(|name| name.trim().replace('-', "_")));
        }
        defined
    }

    /// Whether `name`, in the header of the file at `path`, names something. A small word alone is a module of the crate or
    /// something of the file itself: by chance, some other file has a function or a field of every name.
    fn knows(&self, path: &str, name: &str) -> bool {
        let parts: Vec<&str> = name.trim_end_matches("()").trim_end_matches('!').split("::").collect();
        let may_be_anywhere = parts.len() > 1 || name.starts_with(char::is_uppercase);
        let folder = CRATES.iter().find(|folder| path.starts_with(**folder));
        let modules = folder.and_then(|folder| self.modules.get(folder));
        parts.iter().all(|part| {
            matches!(*part, "crate" | "super" | "self")
                || self.crates.contains(*part)
                || modules.is_some_and(|modules| modules.contains(*part))
                || self
                    .items
                    .iter()
                    .any(|(file, items)| (may_be_anywhere || file == path) && items.contains(*part))
        })
    }
}

/// Names of items, methods, fields and variants.
#[derive(Default)]
struct Definitions(BTreeSet<String>);

impl<'ast> Visit<'ast> for Definitions {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.0.extend(crate::house::paths::name(item));
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.0.insert(item.sig.ident.to_string());
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.0.insert(item.sig.ident.to_string());
    }

    /// Types that a macro makes: what it is called with has their names.
    fn visit_item_macro(&mut self, call: &'ast syn::ItemMacro) {
        self.types(call.mac.tokens.clone());
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.0.insert(item.ident.to_string());
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.0.extend(field.ident.as_ref().map(ToString::to_string));
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.0.insert(variant.ident.to_string());
        visit::visit_variant(self, variant);
    }
}

impl Definitions {
    fn types(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(name) if name.to_string().starts_with(char::is_uppercase) => {
                    self.0.insert(name.to_string());
                }
                TokenTree::Group(group) => self.types(group.stream()),
                _ => {}
            }
        }
    }
}

fn definitions(source: &Source) -> BTreeSet<String> {
    let tree = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
    let mut found = Definitions::default();
    found.visit_file(&tree);
    found.0
}

/// The lines of a module's header, with their numbers.
fn header(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map_while(|(at, line)| Some((at + 1, line.strip_prefix("//!")?)))
}

/// The text between backticks, outside blocks of code.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The same without links, which are rustdoc's to check.
fn unlinked(line: &str) -> impl Iterator<Item = &str> {
    let is_link = |name: &str| line.contains(&format!("[`{name}`]"));
    quoted(line).filter(move |name| !is_link(name))
}

fn is_identifier(name: &str) -> bool {
    let name = name.trim_end_matches("()").trim_end_matches('!');
    name.split("::").all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// `shards/wire`, `tests/spec/*.toml`, `src/{a,b}.rs`: names with a slash, nothing that only a shell or a client would take.
fn is_path(name: &str) -> bool {
    let may_be = |c: char| c.is_ascii_alphanumeric() || "_-./{},*".contains(c);
    name.contains('/')
        && !name.contains("//")
        && !name.starts_with(['/', '.', '-', '*'])
        && name.chars().all(may_be)
}

/// Whether a path stands in the tree, begun at `folder` or at one of the places where documents begin them.
fn exists(folder: &str, path: &str) -> bool {
    if let Some((before, rest)) = path.split_once('{')
        && let Some((inner, after)) = rest.split_once('}')
    {
        return inner.split(',').all(|name| exists(folder, &format!("{before}{name}{after}")));
    }
    // Of a pattern the folder is looked at.
    let path = path
        .split_once('*')
        .map_or(path, |(before, _)| before.rsplit_once('/').map_or("", |(parent, _)| parent));
    let path = path.trim_end_matches('/');
    [folder].iter().chain(&SEARCH).any(|start| {
        let at = root().join(start).join(path);
        at.exists() || at.with_extension("rs").exists()
    })
}

/// Paths of a document that lead nowhere, in backticks and in links, and names like `Type::method` that nothing defines.
fn lost(document: &Source, defined: &Defined, in_strings: impl Fn(&str) -> bool) -> Vec<String> {
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut lost = Vec::new();
    let mut is_code = false;
    for (at, line) in document.text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if is_code {
            continue;
        }
        let paths = quoted(line).filter(|name| is_path(name));
        let ours = paths.filter(|path| {
            let first = path.split('/').next().unwrap_or_default();
            // `$SYS` topics stand in documents without their prefix, as they do in the code that publishes them.
            // The code may add the last level of a topic to the others.
            let others = path.rsplit_once('/').map_or(String::new(), |(others, _)| format!("{others}/"));
            !ELSEWHERE.contains(&first)
                && !in_strings(path.trim_end_matches("REASON"))
                && !in_strings(&others)
        });
        lost.extend(
            ours.filter(|path| !exists(folder, path))
                .map(|path| format!("{}:{}: {path}", document.path, at + 1)),
        );
        let names = quoted(line).map(|name| name.split('(').next().unwrap_or_default());
        let unknown = names.filter(|name| {
            name.contains("::") && is_identifier(name) && !defined.knows(&document.path, name)
        });
        lost.extend(unknown.map(|name| format!("{}:{}: {name}", document.path, at + 1)));
        for link in links(line) {
            let target = root().join(folder).join(link);
            if !target.exists() {
                lost.push(format!("{}:{}: {link}", document.path, at + 1));
            }
        }
    }
    lost
}

/// Targets of links into the repository, without the part that names a heading.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', ' ', '#']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

/// The things that a header says its module knows none of, in words: `Knows no lane and no topic tree; …` is two.
fn denied(header: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, marker) in header.match_indices("nows no ").chain(header.match_indices("nows neither ")) {
        let rest = &header[at + marker.len()..];
        let clause = rest.split(['.', ';', ':', ')']).next().unwrap_or_default();
        let clause =
            clause.replace(", ", "|").replace(" and ", "|").replace(" or ", "|").replace(" nor ", "|");
        for thing in clause.split('|') {
            let words: Vec<String> =
                thing.split_whitespace().filter(|word| *word != "no").map(str::to_lowercase).collect();
            let is_noun = words.iter().all(|word| word.chars().all(|c| c.is_alphabetic() || c == '_'));
            if is_noun && (1..=3).contains(&words.len()) {
                found.push(words);
            }
        }
    }
    found
}

/// A `use` of a module that is called like something the header denies.
fn contradiction(file: &File, text: &str) -> Option<String> {
    let header: Vec<&str> = header(text).map(|(_, line)| line.trim()).collect();
    let used: BTreeSet<String> = imported(&file.tree)
        .into_iter()
        .flat_map(|path| {
            path.into_iter().filter(|name| name.starts_with(char::is_lowercase)).collect::<Vec<_>>()
        })
        .collect();
    denied(&header.join(" ")).into_iter().find_map(|words| {
        let last = words.last()?;
        let mut called =
            vec![words.join("_"), last.clone(), format!("{}s", words.join("_")), format!("{last}s")];
        let about = ABOUT.iter().filter(|(thing, _)| thing == last).flat_map(|(_, modules)| *modules);
        called.extend(about.map(|module| (*module).to_owned()));
        let module = called.into_iter().find(|name| used.contains(name))?;
        Some(format!("{}: knows no {}, but uses `{module}`", file.path, words.join(" ")))
    })
}

/// Headers that name what does not exist.
fn lost_names() -> Vec<String> {
    let defined = Defined::get();
    let mut lost = Vec::new();
    for source in sources(&["src", "shards"], "rs") {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in header(&source.text) {
            let unknown = unlinked(line).filter(|name| {
                is_identifier(name) && !defined.knows(&source.path, name)
                    || is_path(name) && !exists(folder, name)
            });
            lost.extend(unknown.map(|name| format!("{}:{number}: {name}", source.path)));
        }
    }
    lost
}

fn lost_paths() -> Vec<String> {
    let code: String = sources(&["src"], "rs").into_iter().map(|source| source.text).collect();
    let defined = Defined::get();
    documents()
        .iter()
        .flat_map(|document| lost(document, defined, |path| code.contains(&format!("\"{path}"))))
        .collect()
}

fn contradictions() -> Vec<String> {
    let mut found = Vec::new();
    for folder in [
        "src",
        "shards/engine/src",
        "shards/rules/src",
        "shards/wire/src",
        "shards/ring/src",
        "shards/journal/src",
        "shards/websocket/src",
    ] {
        for file in parsed::load(folder) {
            let text = crate::sources::read(&root().join(&file.path));
            found.extend(contradiction(&file, &text));
        }
    }
    found
}

/// Names, paths and denials that are not true.
pub(crate) fn figures() -> Vec<Figure> {
    vec![
        Figure::counted("headers: names in backticks that do not exist", lost_names()),
        Figure::counted("documents: paths and names that do not exist", lost_paths()),
        Figure::counted("headers: \"knows no X\" beside a use of X", contradictions()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nothing_defines_is_seen() {
        let defined = Defined::get();
        assert!(defined.knows("shards/engine/src/lib.rs", "Engine::step"));
        assert!(defined.knows("src/main.rs", "hashbrown"));
        assert!(!defined.knows("shards/engine/src/lib.rs", "Engine::leap"));
        assert!(!defined.knows("shards/engine/src/lib.rs", "parked"), "another crate's field");
        assert!(!defined.knows("shards/engine/src/lib.rs", "lend"), "another file's method");
        assert!(is_identifier("a::B") && is_identifier("no_std") && is_identifier("assert!"));
        assert!(!is_identifier("a b") && !is_identifier("--cfg loom") && !is_identifier("$SYS"));
    }

    #[test]
    fn a_path_that_leads_nowhere_is_seen() {
        let text = "See `src/main.rs`, `src/gone.rs`, [a](src/main.rs#x), [b](gone.md), [c](https://x.org), `a/+`,\n\
                    `clients/connected`, `tests/spec/*.toml`, `shards/{wire,gone}/src`, `target/x`.\n`Engine::step(now)` and `Engine::leap`.\n```\n`src/code.rs`\n```\n";
        let document = Source { path: "README.md".to_owned(), text: text.to_owned() };
        let found = lost(&document, Defined::get(), |path| path == "clients/connected");
        let expected = [
            "README.md:1: src/gone.rs",
            "README.md:1: gone.md",
            "README.md:2: shards/{wire,gone}/src",
            "README.md:3: Engine::leap",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn things_that_a_header_denies_are_read() {
        let header = "Knows no lane and no topic tree; `a` does. It knows no ring, thread or I/O: never. Knows nothing of b.";
        let words: Vec<String> = denied(header).iter().map(|words| words.join(" ")).collect();
        assert_eq!(words, ["lane", "topic tree", "ring", "thread"]);
    }

    #[test]
    fn a_use_of_what_is_denied_is_seen() {
        let seen = |text: &str| contradiction(&File::parse("src", "src/a.rs", text), text).is_some();
        assert!(seen("//! A.\n//! Knows no topic tree.\nuse crate::topic::tree::Tree;\n"));
        assert!(seen("//! A. Knows no session.\nuse crate::sessions::{self, X};\n"));
        assert!(seen("//! A. Knows no other shard.\nuse crate::mesh::topology::ShardSet;\n"));
        assert!(!seen("//! A. Knows no session.\nuse crate::session_id::X;\n"));
        assert!(!seen("//! A. Knows no session.\n#[cfg(test)]\nmod tests { use crate::session::X; }\n"));
    }
}
