//! The house: which file may import which, and how big everything is. Read from the sources as text, as rustfmt lays it out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The most lines of a function.
const FUNCTION_LINES: usize = 60;

/// The most files of a folder (without the doors of its rooms), files, and lines of code: what there is, which may only
/// become less. Wanted are 14, 80 and 16,500.
const FOLDER_FILES: usize = 14;
const FILES: usize = 145;
const CODE_LINES: usize = 22_720;

/// Rooms that never import some others.
const NEVERS: [(&[&str], &[&str]); 2] = [
    (
        &["show", "report", "compare"],
        &["exec", "supervise", "environment"],
    ),
    (&["environment", "supervise"], &["plan", "exec"]),
];

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports();
    let reached: BTreeMap<&String, BTreeSet<&String>> = imports
        .keys()
        .map(|file| (file, reached_from(file, &imports)))
        .collect();
    let circles: BTreeSet<Vec<&String>> = reached
        .iter()
        .filter(|(file, reached)| reached.contains(*file))
        .map(|(file, files)| {
            let is_back = |other: &&String| reached[*other].contains(*file);
            files.iter().copied().filter(is_back).collect()
        })
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

/// All files that one imports, and what these import, and so on.
fn reached_from<'a>(
    file: &str,
    imports: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&String> = imports[file].iter().collect();
    while let Some(file) = left.pop() {
        if reached.insert(file) {
            left.extend(&imports[file]);
        }
    }
    reached
}

#[test]
fn the_model_imports_nothing_of_ours_and_the_three_nevers_hold() {
    let mut wrong = Vec::new();
    for (file, imported) in imports() {
        for import in imported {
            let (from, to) = (room(&file), room(&import));
            let is_never = NEVERS
                .iter()
                .any(|(these, those)| these.contains(&from) && those.contains(&to));
            if is_never || (from == "model" && to != "model") {
                wrong.push(format!("{file} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_type_name_is_defined_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in sources() {
        for line in code(&text).lines() {
            if let Some(name) = defined_type(line) {
                places
                    .entry(name.to_owned())
                    .or_default()
                    .push(file.clone());
            }
        }
    }
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn no_function_is_long() {
    let mut long = Vec::new();
    for (file, text) in sources() {
        let lines: Vec<&str> = code(&text).lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let length = function_length(line, &lines[start..]);
            if length > FUNCTION_LINES {
                long.push(format!("{file}:{}: {length} lines", start + 1));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn folders_and_the_whole_stay_small() {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    let mut rooms: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let sources = sources();
    for (file, text) in &sources {
        let is_door = sources.keys().any(|other| is_in(other, file));
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        *folders.entry(folder.to_owned()).or_default() += usize::from(!is_door);
        let (files, lines) = rooms.entry(room(file).to_owned()).or_default();
        *files += 1;
        *lines += code(text).lines().filter(|line| is_code(line)).count();
    }
    for (room, (files, lines)) in &rooms {
        println!("{lines:6} lines of code in {files:2} files  {room}");
    }
    let lines: usize = rooms.values().map(|(_, lines)| lines).sum();
    println!("{lines:6} in {} files, all together", sources.len());
    folders.retain(|_, files| *files > FOLDER_FILES);
    assert!(folders.is_empty(), "too many files: {folders:?}");
    assert!(sources.len() <= FILES, "{} files", sources.len());
    assert!(lines <= CODE_LINES, "{lines} lines of code");
}

/// The source files: path below `src` without its ending, and text.
fn sources() -> BTreeMap<String, String> {
    // As it is when the test runs.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let root = Path::new(&package).join("src");
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            match name.strip_suffix(".rs") {
                Some(file) => {
                    drop(sources.insert(file.to_owned(), fs::read_to_string(&path).unwrap()))
                }
                None if path.is_dir() => folders.push(path),
                None => (),
            }
        }
    }
    assert!(sources.contains_key("lib"), "{}", root.display());
    sources
}

/// The top-level room that a file is in, or is the door of.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default()
}

fn is_in(file: &str, room: &str) -> bool {
    file.strip_prefix(room)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// A file without its tests, which are at its end.
fn code(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {")
        .map_or(text, |tests| &text[..tests])
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

/// The files that each file imports, by `use` or by a path in its code.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let mut imports = BTreeMap::new();
    for (file, text) in &sources {
        let code: String = code(text)
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
            .collect();
        let mut imported: BTreeSet<String> = paths(&code)
            .iter()
            .filter_map(|path| resolve(file, path, &sources))
            .collect();
        imported.remove(file);
        imports.insert(file.clone(), imported);
    }
    assert!(!imports["run"].is_empty(), "imports are not found");
    imports
}

/// All paths in some code: those that are written out, and those of every `use` with its braces multiplied out.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = code.to_owned();
    for statement in code.split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ") else {
            continue;
        };
        let before = before.rsplit('\n').next().unwrap_or_default().trim();
        if before.is_empty() || before.starts_with("pub") {
            let tree: String = tree.split_whitespace().collect();
            multiply_out("", &tree, &mut paths);
            rest = rest.replace(
                &format!("use {};", statement.rsplit_once("use ").unwrap().1),
                "",
            );
        }
    }
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let written = rest
        .split(|c| !is_of_path(c))
        .filter(|word| word.contains("::"));
    paths.extend(written.map(str::to_owned));
    paths
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn multiply_out(before: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, inner)) = tree.split_once('{') else {
        paths.push(format!("{before}{tree}"));
        return;
    };
    let before = format!("{before}{head}");
    let (mut depth, mut start) = (0, 0);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if start < at {
                    multiply_out(&before, &inner[start..at], paths);
                }
                start = at + 1;
            }
            _ => (),
        }
    }
}

/// The file that a path in `file` leads into.
fn resolve(file: &str, path: &str, sources: &BTreeMap<String, String>) -> Option<String> {
    let mut place: Vec<&str> = file.split('/').filter(|part| *part != "lib").collect();
    let mut parts = path.split("::").peekable();
    match *parts.peek()? {
        "crate" => {
            place.clear();
            parts.next();
        }
        "self" => drop(parts.next()),
        "super" => {
            while parts.next_if_eq(&"super").is_some() {
                place.pop();
            }
        }
        // A module of this file, or a crate.
        module => {
            let child = [place.as_slice(), &[module]].concat().join("/");
            sources.contains_key(&child).then_some(())?;
        }
    }
    place.extend(parts);
    (1..=place.len())
        .rev()
        .map(|length| place[..length].join("/"))
        .find(|file| sources.contains_key(file))
}

/// The name of the type that a line begins to define, where it does.
fn defined_type(line: &str) -> Option<&str> {
    let words = without_visibility(line.trim_start());
    let (kind, rest) = words.split_once(' ')?;
    let is_alias = kind == "type" && !line.starts_with(' ');
    (is_alias || ["struct", "enum", "union", "trait"].contains(&kind)).then_some(())?;
    let name = rest
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()?;
    name.starts_with(char::is_uppercase).then_some(name)
}

fn without_visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else {
        return line;
    };
    let rest = rest
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(") "))
        .map_or(rest, |(_, rest)| rest);
    rest.trim_start()
}

/// How many lines the function has that begins with the first of `lines`; 0 where none does.
fn function_length(first: &str, lines: &[&str]) -> usize {
    let mut words = without_visibility(first.trim_start()).split(' ');
    let is_function = words
        .by_ref()
        .find(|word| !["const", "async", "unsafe", "extern", "\"C\""].contains(word))
        == Some("fn");
    let Some(body) = lines
        .iter()
        .position(|line| line.ends_with(['{', '}', ';']))
        .filter(|_| is_function)
    else {
        return 0;
    };
    if !lines[body].ends_with('{') {
        return body + 1;
    }
    let indentation = first.len() - first.trim_start().len();
    let end = format!("{}}}", &first[..indentation]);
    lines
        .iter()
        .position(|line| *line == end)
        .map_or(0, |end| end + 1)
}
