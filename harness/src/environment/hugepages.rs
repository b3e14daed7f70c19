//! Hugepages: how many the kernel keeps in reserve, in all or on a NUMA node (Documentation/admin-guide/mm/hugetlbpage.rst).

use std::fs::{self, DirEntry};

use super::Refusal;
use super::definition::{Pages, Placed};
use super::root::Root;
use super::target::{Place, Reads, Target};
use crate::model::host;

const ALL: &str = "/sys/kernel/mm/hugepages";
const NODES: &str = "/sys/devices/system/node";

/// What a number of hugepages of a size, in bytes, comes down to. A number is the least that there are to be: pages
/// that are there already may be in use.
///
/// # Errors
/// If the kernel lacks the size, or the host a node.
pub fn targets(root: &Root, size: u64, pages: &Placed<Pages>) -> Result<Vec<Target>, Refusal> {
    let refused = |reason: String| Err(Refusal::Refused(format!("{}: {reason}", pages.place)));
    let directory = format!("hugepages-{}kB", size / 1024);
    if !root.path(format!("{ALL}/{directory}")).is_dir() {
        let sizes = sizes(root);
        let has = if sizes.is_empty() {
            "none"
        } else {
            &sizes.join(", ")
        };
        return refused(format!(
            "this kernel has no hugepages of {}; it has {has}",
            host::size(size)
        ));
    }
    let wanted = match &pages.value {
        Pages::Total(count) => vec![(format!("{ALL}/{directory}/nr_hugepages"), *count)],
        Pages::Nodes(nodes) => {
            let of_node =
                |(node, count): (&u32, &u64)| (of_node(&format!("node{node}"), &directory), *count);
            nodes.iter().map(of_node).collect()
        }
    };
    if let Some((path, _)) = wanted.iter().find(|(path, _)| !root.path(path).exists()) {
        return refused(format!("this host has no {path}"));
    }
    let target = |(path, count): (String, u64)| Target {
        knob: Place::Hugepages(path),
        to: count.to_string(),
        reads: Reads::AtLeast,
        turns_on: None,
    };
    Ok(wanted.into_iter().map(target).collect())
}

/// The files that change when one of them is written. The number in all is the sum of those of the nodes; written back
/// as a sum it would be spread over them anew.
pub fn written_with(root: &Root, path: &str) -> Vec<String> {
    let directory = path
        .strip_prefix(ALL)
        .and_then(|rest| rest.split('/').nth(1));
    let Some(directory) = directory else {
        return vec![path.to_owned()];
    };
    let of_nodes = names(root, NODES)
        .into_iter()
        .map(|node| of_node(&node, directory));
    let files: Vec<String> = of_nodes.filter(|file| root.path(file).is_file()).collect();
    if files.is_empty() {
        vec![path.to_owned()]
    } else {
        files
    }
}

fn of_node(node: &str, directory: &str) -> String {
    format!("{NODES}/{node}/hugepages/{directory}/nr_hugepages")
}

/// The sizes that the kernel has, in words.
fn sizes(root: &Root) -> Vec<String> {
    let kib = |name: String| {
        name.strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse::<u64>()
            .ok()
    };
    let mut sizes: Vec<u64> = names(root, ALL).into_iter().filter_map(kib).collect();
    sizes.sort_unstable();
    sizes
        .into_iter()
        .map(|kib| host::size(kib * 1024))
        .collect()
}

fn names(root: &Root, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root.path(directory))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry: DirEntry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
