//! The layers of the crate: which module may use which. Every path that the source names (`crate::`,
//! `super::`, `self::` or a child module, in imports and elsewhere, tests excepted) is an edge between
//! two files. What a module re-exports from its own folder is no edge of the module's: who names it
//! uses the file where it is defined.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// The rooms (top-level modules): each uses only those before it. The crate root comes last, so that
/// nothing uses its re-exports.
const ROOMS: [&str; 16] = [
    "error",
    "memory",
    "interrupt",
    "threads",
    "recycler",
    "io",
    "key",
    "simd",
    "prng",
    "schemes",
    "input",
    "dedup",
    "score",
    "spill",
    "scorer",
    ROOT,
];
/// The crate root among the rooms.
const ROOT: &str = "";

/// A module: the names that lead to it from the root.
type Module = Vec<String>;

/// File and text of each module.
type Crate = BTreeMap<Module, (String, String)>;

/// The module of a file, given relative to `src`.
fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    let names = path.split('/').map(str::to_owned);
    names
        .filter(|name| name != "mod" && name != "lib")
        .collect()
}

fn collect(src: &Path, folder: &Path, files: &mut Crate) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(src, &path, files)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let file = path.strip_prefix(src).unwrap_or(&path).to_string_lossy();
            let file = file.replace('\\', "/");
            let text = std::fs::read_to_string(&path)?;
            files.insert(module_of(&file), (file, text));
        }
    }
    Ok(())
}

/// Names, `::` and single other characters; comments, literals and lifetimes are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                while i < chars.len() && (at(i), at(i + 1)) != ('*', '/') {
                    i += 1;
                }
                i += 2;
            }
            ('r', '"' | '#') if raw_end(&chars, i).is_some() => {
                i = raw_end(&chars, i).unwrap_or(chars.len());
            }
            ('"', _) => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            ('\'', '\\') => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            (':', ':') => {
                out.push("::".to_owned());
                i += 2;
            }
            (c, _) if is_name(c) => {
                let from = i;
                while is_name(at(i)) {
                    i += 1;
                }
                out.push(chars[from..i].iter().collect());
            }
            (c, _) => {
                if !c.is_whitespace() {
                    out.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    out
}

/// Where a raw string that begins at `from` ends, if one does.
fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let marks = chars[from + 1..].iter().take_while(|&&c| c == '#').count();
    let open = from + 1 + marks;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |&i: &usize| {
        chars[i] == '"'
            && chars[i + 1..]
                .iter()
                .take(marks)
                .filter(|&&c| c == '#')
                .count()
                == marks
    };
    let end = (open + 1..chars.len()).find(closes);
    Some(end.map_or(chars.len(), |end| end + 1 + marks))
}

/// The tokens without the items that only tests have.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].iter().take(MARK.len()).eq(MARK.iter()) {
            out.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += MARK.len();
        let mut depth = 0;
        while i < tokens.len() {
            match &tokens[i][..] {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            i += 1;
            if depth == 0 && matches!(&tokens[i - 1][..], ";" | "}") {
                break;
            }
        }
    }
    out
}

/// A path of names, and the name that an import gives to what it leads to.
type Import = (Module, String);

/// Reads the tree of an import from `i` on, up to its end; returns where it ends.
fn tree(tokens: &[String], mut i: usize, stem: &[String], out: &mut Vec<Import>) -> usize {
    let mut path = stem.to_vec();
    let mut alias = None;
    while let Some(token) = tokens.get(i) {
        match &token[..] {
            "::" => i += 1,
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|token| token != "}") {
                    i = tree(tokens, i, &path, out);
                    i += usize::from(tokens.get(i).is_some_and(|token| token == ","));
                }
                return i + 1;
            }
            "as" => {
                alias = tokens.get(i + 1).cloned();
                i += 2;
            }
            "," | "}" | ";" => break,
            name => {
                path.push(name.to_owned());
                i += 1;
            }
        }
    }
    let last = path.last().cloned().unwrap_or_default();
    out.push((path, alias.unwrap_or(last)));
    i
}

/// All paths of a file that have more than one name, and its re-exports.
fn paths(text: &str) -> (Vec<Module>, Vec<Import>) {
    let tokens = without_tests(tokens(text));
    let (mut out, mut exports) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        let token = &tokens[i];
        if token == "use" {
            let mut imports = Vec::new();
            let public = i > 0 && matches!(&tokens[i - 1][..], "pub" | ")");
            i = tree(&tokens, i + 1, &[], &mut imports);
            match public {
                true => exports.extend(imports),
                false => out.extend(imports.into_iter().map(|(path, _)| path)),
            }
            continue;
        }
        i += 1;
        if !token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let mut path = vec![token.clone()];
        while tokens.get(i).is_some_and(|token| token == "::")
            && tokens
                .get(i + 1)
                .is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        {
            path.push(tokens[i + 1].clone());
            i += 2;
        }
        out.push(path);
    }
    out.retain(|path| path.len() > 1);
    (out, exports)
}

/// What each module re-exports from its own folder: by its name there, the module that defines it.
type Exports = BTreeMap<Module, Vec<(String, Module)>>;

/// The modules whose files a path leads to; none for other crates and local names.
fn resolve(files: &Crate, exports: &Exports, own: &Module, path: &[String]) -> Vec<Module> {
    let child = |stem: &Module, name: &String| {
        let mut module = stem.clone();
        module.push(name.clone());
        files.contains_key(&module).then_some(module)
    };
    let mut module = match &path[0][..] {
        "crate" => Module::new(),
        "self" | "super" => own.clone(),
        name if child(own, &name.to_owned()).is_some() => own.clone(),
        _ => return Vec::new(),
    };
    let mut rest = path;
    while let [name, more @ ..] = rest {
        let exported = exports.get(&module).map_or(&[][..], Vec::as_slice);
        match &name[..] {
            "crate" | "self" => {}
            "super" => drop(module.pop()),
            "*" => {
                let others = exported.iter().map(|(_, from)| from.clone());
                return others.chain([module.clone()]).collect();
            }
            _ => match child(&module, name) {
                Some(inner) => module = inner,
                None => {
                    let found = exported.iter().find(|(known, _)| known == name);
                    return vec![found.map_or(module, |(_, from)| from.clone())];
                }
            },
        }
        rest = more;
    }
    vec![module]
}

/// What is wrong: uses of later rooms, and rings of files.
fn problems(files: &Crate) -> Vec<String> {
    let mut problems = Vec::new();
    let file = |module: &Module| files.get(module).map_or("", |(file, _)| file);
    let room = |module: &Module| {
        let name = module.first().map_or(ROOT, String::as_str);
        ROOMS.iter().position(|room| *room == name)
    };
    let mut edges: BTreeSet<(Module, Module)> = BTreeSet::new();
    let (mut exports, mut uses) = (Exports::new(), Vec::new());
    for (own, (_, text)) in files {
        if room(own).is_none() {
            problems.push(format!("{} is in no room of the list", file(own)));
        }
        let (paths, public) = paths(text);
        uses.extend(paths.into_iter().map(|path| (own, path)));
        for (path, name) in public {
            let from = resolve(files, &Exports::new(), own, &path).pop();
            match from {
                Some(from)
                    if from.len() > own.len() && from.starts_with(own) && !own.is_empty() =>
                {
                    exports.entry(own.clone()).or_default().push((name, from));
                }
                _ => uses.push((own, path)),
            }
        }
    }
    for (own, path) in uses {
        for used in resolve(files, &exports, own, &path) {
            if used == *own {
                continue;
            }
            if room(&used) > room(own) {
                problems.push(format!(
                    "{} uses {}, a later room ({})",
                    file(own),
                    path.join("::"),
                    file(&used)
                ));
            }
            edges.insert((own.clone(), used));
        }
    }
    for (from, to) in &edges {
        if reaches(&edges, to, from) {
            problems.push(format!(
                "{} uses {}, which uses it in turn",
                file(from),
                file(to)
            ));
        }
    }
    problems
}

fn reaches(edges: &BTreeSet<(Module, Module)>, from: &Module, to: &Module) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut waiting = vec![from];
    while let Some(module) = waiting.pop() {
        if module == to {
            return true;
        }
        let next = edges.iter().filter(|(start, _)| start == module);
        waiting.extend(next.map(|(_, end)| end).filter(|end| seen.insert(end)));
    }
    false
}

#[test]
fn each_room_uses_only_those_before_it() -> io::Result<()> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Crate::new();
    collect(&src, &src, &mut files)?;
    assert!(files.len() > ROOMS.len());
    let problems = problems(&files);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The problems of a small crate of a few files.
fn planted(sources: &[(&str, &str)]) -> Vec<String> {
    let files = sources
        .iter()
        .map(|&(file, text)| (module_of(file), (file.to_owned(), text.to_owned())));
    problems(&files.collect())
}

#[test]
fn wrong_edges_are_found() {
    let scorer = ("scorer/mod.rs", "pub struct Scorer;");
    let upward = "input/plan.rs uses crate::scorer::Scorer, a later room (scorer/mod.rs)";
    for text in [
        "use crate::{error::Error, scorer::{self, Scorer as S}};",
        "pub use super::super::scorer::Scorer;",
        "fn f<'a>(c: char) { if c == '\"' { crate::scorer::Scorer::new::<u8>(&\"//\") } }",
        "fn f() { use crate::scorer::*; }",
        "const RAW: &str = r#\"\"\"#; use crate::scorer::Scorer; // \"",
    ] {
        let found = planted(&[scorer, ("input/plan.rs", text)]);
        let (found, wanted) = (found.join("\n"), "a later room (scorer/mod.rs)");
        assert!(
            found.contains("input/plan.rs uses") && found.contains(wanted),
            "{text}: {found}"
        );
    }
    let text = "/// [`crate::scorer`]\nfn f() -> crate::scorer::Scorer {}";
    assert_eq!(planted(&[scorer, ("input/plan.rs", text)]), [upward]);
    let root = planted(&[("lib.rs", ""), ("io/files.rs", "use crate::Error;")]);
    assert_eq!(
        root,
        ["io/files.rs uses crate::Error, a later room (lib.rs)"]
    );
    let stray = planted(&[("misc.rs", "")]);
    assert_eq!(stray, ["misc.rs is in no room of the list"]);
}

#[test]
fn rings_within_a_room_are_found() {
    let ring = [
        ("scorer/mod.rs", "pub mod state; pub use state::State;"),
        ("scorer/group.rs", "use super::State;"),
        ("scorer/state.rs", "use super::group::Group;"),
    ];
    let found = planted(&ring);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[0],
        "scorer/group.rs uses scorer/state.rs, which uses it in turn"
    );
    let all = [ring[0], ("scorer/group.rs", "use super::*;"), ring[2]];
    assert_eq!(planted(&all), found);
    let own = [
        (
            "scorer/mod.rs",
            "mod state; use state::State; struct Scorer;",
        ),
        ("scorer/state.rs", "use super::Scorer;"),
    ];
    assert_eq!(planted(&own).len(), 2);
}

#[test]
fn right_edges_and_tests_are_left_alone() {
    let found = planted(&[
        ("input/mod.rs", ""),
        (
            "scorer/mod.rs",
            "pub mod state;\nuse crate::input::plan; use std::io;",
        ),
        ("scorer/state.rs", "use super::Scorer; pub(super) fn f() {}"),
        (
            "input/plan.rs",
            "// use crate::scorer::Scorer;\n#[cfg(test)]\nmod tests { use crate::scorer::Scorer; \
                 fn f() { \"}\"; } }\n#[cfg(test)] use crate::scorer::Scorer;",
        ),
    ]);
    assert!(found.is_empty(), "{found:?}");
}
