//! Rust files as syntax trees, without their tests.

use std::collections::BTreeSet;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, Item};

use crate::sources::{Source, sources};

/// A file of a crate with the items that only tests have taken out.
pub(crate) struct File {
    /// From the root of the repository.
    pub(crate) path: String,
    /// Names of modules from the crate's root: empty for `lib.rs`, `[tree]` for `tree.rs` and `tree/mod.rs`.
    pub(crate) module: Vec<String>,
    pub(crate) tree: syn::File,
    /// Lines of the file, those of its tests left out.
    pub(crate) lines: usize,
}

impl File {
    /// Parses `text`, the file at `path` of the crate whose sources stand below `folder`.
    pub(crate) fn parse(folder: &str, path: &str, text: &str) -> Self {
        let mut tree = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut tests = Vec::new();
        take_out_tests(&mut tree.items, &mut tests);
        let is_test =
            |number: usize| tests.iter().any(|span: &(usize, usize)| (span.0..=span.1).contains(&number));
        let lines = (1..=text.lines().count()).filter(|number| !is_test(*number)).count();
        Self { path: path.to_owned(), module: module_of(folder, path), tree, lines }
    }
}

/// The files of the crate whose sources stand below `folder`. A file that a module declares under `#[cfg(test)]` is a
/// test, and so is everything below it.
pub(crate) fn load(folder: &str) -> Vec<File> {
    let found = sources(&[folder], "rs");
    let tests: BTreeSet<Vec<String>> = found.iter().flat_map(|source| test_modules(folder, source)).collect();
    let is_test = |source: &&Source| {
        let module = module_of(folder, &source.path);
        (1..=module.len()).any(|length| tests.contains(&module[..length]))
    };
    found
        .iter()
        .filter(|source| !is_test(source))
        .map(|source| File::parse(folder, &source.path, &source.text))
        .collect()
}

/// Modules of `source` that are declared for tests and written elsewhere: `#[cfg(test)] mod tests;`.
fn test_modules(folder: &str, source: &Source) -> Vec<Vec<String>> {
    let tree = syn::parse_file(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
    let own = module_of(folder, &source.path);
    let declared = tree.items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && is_for_tests(&module.attrs) => {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    declared.map(|name| own.iter().cloned().chain([name]).collect()).collect()
}

fn module_of(folder: &str, path: &str) -> Vec<String> {
    let inner = path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/').trim_end_matches(".rs");
    let mut names: Vec<String> = inner.split('/').map(str::to_owned).collect();
    let is_root = names.len() == 1 && (names[0] == "lib" || names[0] == "main");
    if is_root || names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

fn take_out_tests(items: &mut Vec<Item>, tests: &mut Vec<(usize, usize)>) {
    items.retain_mut(|item| {
        let span = lines_of(item.span());
        if is_for_tests(attributes(item)) {
            tests.push(span);
            return false;
        }
        match item {
            Item::Mod(module) => {
                if let Some((_, inner)) = &mut module.content {
                    take_out_tests(inner, tests);
                }
            }
            Item::Impl(block) => block.items.retain(|item| {
                let (ImplItem::Fn(syn::ImplItemFn { attrs, .. })
                | ImplItem::Const(syn::ImplItemConst { attrs, .. })) = item
                else {
                    return true;
                };
                if is_for_tests(attrs) {
                    tests.push(lines_of(item.span()));
                }
                !is_for_tests(attrs)
            }),
            _ => {}
        }
        true
    });
}

/// First and last line, counted from one. The span of an item begins with its attributes.
pub(crate) fn lines_of(span: Span) -> (usize, usize) {
    (span.start().line, span.end().line)
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
        list.path.is_ident("cfg") && {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition.starts_with("all(test")
        }
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_taken_out_and_their_lines_not_counted() {
        let text = "//! H.\n\nfn kept() {}\n\n#[cfg(test)]\nmod tests {\n    fn gone() {}\n}\n#[cfg(not(test))]\nfn stays() {}\n";
        let file = File::parse("a/src", "a/src/b/mod.rs", text);
        assert_eq!(file.module, ["b"]);
        assert_eq!(file.tree.items.len(), 2);
        assert_eq!(file.lines, 6, "ten lines, four of them a test's");
    }

    #[test]
    fn modules_are_named_by_their_files() {
        assert_eq!(module_of("a/src", "a/src/lib.rs"), [""; 0]);
        assert_eq!(module_of("a/src", "a/src/b.rs"), ["b"]);
        assert_eq!(module_of("a/src", "a/src/b/mod.rs"), ["b"]);
        assert_eq!(module_of("a/src", "a/src/b/c.rs"), ["b", "c"]);
    }
}
