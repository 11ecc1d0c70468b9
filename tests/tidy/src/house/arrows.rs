//! Arrows between the files of a crate: one file names an item that another one defines.
//! A name that a module only passes on (`pub use`) counts as an arrow to the file that defines it.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, Visibility};

use super::parsed::File;
use super::paths::{Path, Uses, child, imports, name};

/// From one file to another, by their places in the list of files.
pub(crate) type Arrow = (usize, usize);

/// The most steps that a path is followed; a longer way through re-exports is a circle.
const STEPS_MAX: usize = 16;

/// A module, in a file of its own or within one.
#[derive(Default)]
struct Module {
    file: usize,
    items: BTreeSet<String>,
    imports: BTreeMap<String, Path>,
    globs: Vec<Path>,
}

struct Crate {
    modules: BTreeMap<Path, Module>,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Item(usize),
    Module(Path),
}

/// All arrows between `files`, which are those of one crate.
pub(crate) fn arrows(files: &[File]) -> BTreeSet<Arrow> {
    let known = Crate::new(files);
    let mut found = BTreeSet::new();
    for (at, file) in files.iter().enumerate() {
        let mut names = Names { known: &known, module: file.module.clone(), found: BTreeSet::new() };
        names.visit_file(&file.tree);
        found.extend(names.found.into_iter().filter(|target| *target != at).map(|target| (at, target)));
    }
    found
}

/// Groups of files that all reach one another, the largest first; files that are in no circle are left out.
pub(crate) fn circles(count: usize, arrows: &BTreeSet<Arrow>) -> Vec<Vec<usize>> {
    let mut reaches = vec![vec![false; count]; count];
    for (from, to) in arrows {
        reaches[*from][*to] = true;
    }
    for by in 0..count {
        for from in 0..count {
            if reaches[from][by] {
                let onwards = reaches[by].clone();
                for (slot, further) in reaches[from].iter_mut().zip(onwards) {
                    *slot |= further;
                }
            }
        }
    }
    let mut taken = vec![false; count];
    let mut circles = Vec::new();
    for from in 0..count {
        if taken[from] || !reaches[from][from] {
            continue;
        }
        let circle: Vec<usize> = (0..count).filter(|to| reaches[from][*to] && reaches[*to][from]).collect();
        for member in &circle {
            taken[*member] = true;
        }
        circles.push(circle);
    }
    circles.sort_by_key(|circle| usize::MAX - circle.len());
    circles
}

impl Crate {
    fn new(files: &[File]) -> Self {
        let mut known = Self { modules: BTreeMap::new() };
        for (at, file) in files.iter().enumerate() {
            known.declare(&file.module, at, &file.tree.items);
        }
        // Imports need every module's name first.
        for file in files {
            known.import(&file.module, &file.tree.items);
        }
        known
    }

    fn declare(&mut self, path: &[String], file: usize, items: &[Item]) {
        let names = items.iter().filter_map(name).collect();
        self.modules.insert(path.to_vec(), Module { file, items: names, ..Module::default() });
        for (name, inner) in inline_modules(items) {
            self.declare(&child(path, &name), file, inner);
        }
    }

    fn import(&mut self, path: &[String], items: &[Item]) {
        let mut uses = Uses::default();
        for item in items {
            uses.visit_item(item);
        }
        let mut imports = BTreeMap::new();
        let mut globs = Vec::new();
        for import in uses.found {
            let Some(target) = self.absolute(path, &import.path) else { continue };
            match import.name {
                Some(name) => drop(imports.insert(name, target)),
                None => globs.push(target),
            }
        }
        let module = self.modules.get_mut(path).expect("declared before");
        (module.imports, module.globs) = (imports, globs);
        for (name, inner) in inline_modules(items) {
            self.import(&child(path, &name), inner);
        }
    }

    /// `path` as written in `module`, from the crate's root; `None` if it leads out of the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Path> {
        let first = path.first()?;
        let (mut base, mut rest) = (module.to_vec(), path);
        if first == "crate" {
            (base, rest) = (Path::new(), &path[1..]);
        } else if first == "self" || first == "super" {
            while let Some((step, further)) = rest.split_first()
                && (step == "self" || step == "super")
            {
                if step == "super" {
                    base.pop();
                }
                rest = further;
            }
        } else if let Some(import) = self.modules.get(module).and_then(|module| module.imports.get(first)) {
            (base, rest) = (import.clone(), &path[1..]);
        } else if !self.modules.contains_key(&child(module, first)) {
            return None;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The file that defines what `path`, from the crate's root, names.
    fn resolve(&self, path: &[String], steps: usize) -> Option<Target> {
        if steps > STEPS_MAX {
            return None;
        }
        let mut at = Path::new();
        for (index, name) in path.iter().enumerate() {
            let is_last = index + 1 == path.len();
            let module = self.modules.get(&at)?;
            let next = child(&at, name);
            if self.modules.contains_key(&next) && !(is_last && module.items.contains(name)) {
                at = next;
                continue;
            }
            if module.items.contains(name) {
                return Some(Target::Item(module.file));
            }
            if let Some(import) = module.imports.get(name) {
                let further = import.iter().chain(&path[index + 1..]).cloned().collect::<Path>();
                return self.resolve(&further, steps + 1);
            }
            return module.globs.iter().find_map(|glob| {
                let further = glob.iter().chain(&path[index..]).cloned().collect::<Path>();
                self.resolve(&further, steps + 1)
            });
        }
        Some(Target::Module(at))
    }
}

/// The names that one file uses, followed to where they are defined.
struct Names<'a> {
    known: &'a Crate,
    module: Path,
    found: BTreeSet<usize>,
}

impl Names<'_> {
    fn follow(&mut self, path: &[String]) {
        let Some(path) = self.known.absolute(&self.module, path) else { return };
        // A module alone is a way to its items, which are followed where they are named.
        if let Some(Target::Item(file)) = self.known.resolve(&path, 0) {
            self.found.insert(file);
        }
    }

    /// Paths within the arguments of a macro.
    fn follow_tokens(&mut self, tokens: TokenStream) {
        let mut path: Path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.follow(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.follow(&path);
                    path.clear();
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.follow_tokens(group.stream());
                    }
                }
            }
        }
        self.follow(&path);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.follow(&names);
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // Passing a name on is not using it.
        if !matches!(item.vis, Visibility::Inherited) {
            return;
        }
        for import in imports(&item.tree) {
            if import.name.is_some() {
                self.follow(&import.path);
                continue;
            }
            let module = self.known.absolute(&self.module, &import.path);
            if let Some(Target::Module(module)) = module.and_then(|path| self.known.resolve(&path, 0)) {
                self.found.insert(self.known.modules[&module].file);
            }
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.follow_tokens(call.tokens.clone());
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

fn inline_modules(items: &[Item]) -> impl Iterator<Item = (String, &[Item])> {
    items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some((module.ident.to_string(), &module.content.as_ref()?.1[..])),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arrows between these files, as pairs of their paths.
    fn between(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let files: Vec<File> = files.iter().map(|(path, text)| File::parse("src", path, text)).collect();
        let path = |at: usize| files[at].path.trim_start_matches("src/").to_owned();
        arrows(&files).into_iter().map(|(from, to)| (path(from), path(to))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn a_name_that_is_passed_on_leads_to_where_it_is_defined() {
        let found = between(&[
            ("src/lib.rs", "mod room; mod user; pub use room::Type;"),
            (
                "src/room/mod.rs",
                "mod table; pub(crate) use table::Type; pub(crate) use self::table::Other as Named;",
            ),
            ("src/room/table.rs", "pub(crate) struct Type; pub(crate) struct Other;"),
            ("src/user.rs", "use crate::room::{Named, Type};"),
        ]);
        assert_eq!(found, pairs(&[("user.rs", "room/table.rs")]));
    }

    #[test]
    fn paths_in_code_in_types_and_in_macros_are_arrows() {
        let files = [
            ("src/a.rs", "pub(crate) struct A; pub(crate) const N: u8 = 1;"),
            ("src/b.rs", "fn f() { assert!(x(crate::a::N)); }"),
            ("src/c.rs", "use crate::a; fn f(_: &a::A) {}"),
            ("src/d.rs", "impl super::a::A {}"),
            ("src/e.rs", "fn f() { use crate::a::A; A::new(); }"),
            ("src/f.rs", "use crate::a::*;"),
            ("src/g.rs", "use std::a::A; use crate::a as other; pub(in crate::a) struct G;"),
            ("src/lib.rs", "mod a;"),
        ];
        let expected = ["b", "c", "d", "e", "f"].map(|from| (format!("{from}.rs"), "a.rs".to_owned()));
        assert_eq!(between(&files), expected);
    }

    #[test]
    fn a_module_that_uses_what_it_passes_on_has_an_arrow() {
        let found = between(&[
            ("src/lib.rs", "mod room;"),
            ("src/room/mod.rs", "mod table; pub(crate) use table::Type; struct Holder { one: Type }"),
            ("src/room/table.rs", "use super::Holder; pub(crate) struct Type;"),
        ]);
        assert_eq!(found, pairs(&[("room/mod.rs", "room/table.rs"), ("room/table.rs", "room/mod.rs")]));
    }

    #[test]
    fn tests_make_no_arrows() {
        let test = "#[cfg(test)] mod tests { use crate::a::A; }";
        assert_eq!(between(&[("src/lib.rs", "mod a;"), ("src/a.rs", "struct A;"), ("src/b.rs", test)]), []);
    }

    #[test]
    fn circles_are_the_files_that_reach_one_another() {
        let arrows = BTreeSet::from([(0, 1), (1, 2), (2, 0), (2, 3), (4, 5), (5, 4), (3, 4)]);
        assert_eq!(circles(6, &arrows), [vec![0, 1, 2], vec![4, 5]]);
        assert!(circles(3, &BTreeSet::from([(0, 1), (1, 2), (0, 2)])).is_empty());
    }
}
