//! Figures of the house: how the engine's files hang together, and the length of files and functions everywhere.

mod arrows;
mod counts;
pub(crate) mod parsed;
pub(crate) mod paths;
mod rooms;

use crate::figure::Figure;
use counts::Counts;
use parsed::File;

const ENGINE: &str = "shards/engine/src";
/// Folders whose files are measured for their length, the engine's aside.
const OTHERS: [&str; 5] =
    ["src", "shards/wire/src", "shards/ring/src", "shards/journal/src", "shards/websocket/src"];
pub(crate) const FILE_LINES_MAX: usize = 500;
pub(crate) const FUNCTION_LINES_MAX: usize = 70;
/// From this many arguments on, `self` included, a function takes too many.
pub(crate) const ARGUMENTS: usize = 7;

/// Every figure of the engine and of the other folders.
pub(crate) fn figures() -> Vec<Figure> {
    let engine = parsed::load(ENGINE);
    let counts: Vec<Counts> = engine.iter().map(counts::count).collect();
    let mut figures = shape(&engine);
    figures.extend(contents(&engine, &counts));
    let folders = OTHERS.iter().filter(|folder| crate::sources::root().join(folder).is_dir());
    let others: Vec<File> = folders.flat_map(|folder| parsed::load(folder)).collect();
    let other_counts: Vec<Counts> = others.iter().map(counts::count).collect();
    figures.push(long_files("elsewhere: files above 500 lines", &others));
    figures.push(long_functions("elsewhere: functions above 70 lines", &others, &other_counts));
    figures
}

/// Circles, arrows between rooms, and files without a room.
fn shape(files: &[File]) -> Vec<Figure> {
    let arrows = arrows::arrows(files);
    let short = |at: usize| short(&files[at].path);
    let circles = arrows::circles(files.len(), &arrows);
    let members = |circle: &Vec<usize>| circle.iter().map(|at| short(*at)).collect::<Vec<_>>().join(" ");
    let back = rooms::arrows_back(files, &arrows);
    let homeless = rooms::homeless(files);
    vec![
        Figure::new(
            "engine: files in the largest import circle",
            circles.first().map_or(0, Vec::len),
            circles.iter().map(members).collect(),
        ),
        Figure::counted(
            "engine: arrows between rooms that run back",
            back.iter().map(|(from, to)| format!("{} -> {}", short(*from), short(*to))).collect(),
        ),
        Figure::counted(
            "engine: files in no room",
            homeless.iter().map(|path| self::short(path).to_owned()).collect(),
        ),
    ]
}

fn contents(files: &[File], counts: &[Counts]) -> Vec<Figure> {
    let both = || files.iter().zip(counts);
    let fields = both().flat_map(|(file, counts)| {
        let path = short(&file.path);
        counts.crate_visible_fields.iter().map(move |field| format!("{path}: {field}"))
    });
    let many =
        functions(files, counts, |function| function.arguments >= ARGUMENTS).map(|(path, function)| {
            format!("{path}:{}: {} takes {}", function.line, function.name, function.arguments)
        });
    let expects = both().filter(|(_, counts)| counts.expects > 0);
    let longest_file = files.iter().map(|file| file.lines).max().unwrap_or(0);
    let longest_function = functions(files, counts, |_| true).map(|(_, function)| function.lines).max();
    let assertions: usize = counts.iter().map(|counts| counts.assertions).sum();
    let lines: usize = files.iter().map(|file| file.lines).sum();
    let dense = both().map(|(file, counts)| {
        format!("{}: {} in {} lines", short(&file.path), counts.assertions, file.lines)
    });
    vec![
        Figure::counted("engine: crate-visible fields", fields.collect()),
        Figure::counted("engine: functions of seven or more arguments", many.collect()),
        Figure::new(
            "engine: calls of expect",
            counts.iter().map(|counts| counts.expects).sum(),
            expects.map(|(file, counts)| format!("{}: {}", short(&file.path), counts.expects)).collect(),
        ),
        Figure::new("engine: lines of the longest file", longest_file, long_files("", files).details),
        Figure::new(
            "engine: lines of the longest function",
            longest_function.unwrap_or(0),
            long_functions("", files, counts).details,
        ),
        Figure::ratio("engine: assertions in a thousand lines", assertions, lines, 1_000, dense.collect()),
    ]
}

fn long_files(name: &'static str, files: &[File]) -> Figure {
    let long = files.iter().filter(|file| file.lines > FILE_LINES_MAX);
    Figure::counted(name, long.map(|file| format!("{}: {} lines", short(&file.path), file.lines)).collect())
}

fn long_functions(name: &'static str, files: &[File], counts: &[Counts]) -> Figure {
    let long = functions(files, counts, |function| function.lines > FUNCTION_LINES_MAX);
    let shown = long.map(|(path, function)| {
        format!("{path}:{}: {}, {} lines", function.line, function.name, function.lines)
    });
    Figure::counted(name, shown.collect())
}

fn functions<'a>(
    files: &'a [File],
    counts: &'a [Counts],
    wanted: impl Fn(&counts::Function) -> bool + Copy + 'a,
) -> impl Iterator<Item = (&'a str, &'a counts::Function)> {
    files.iter().zip(counts).flat_map(move |(file, counts)| {
        let path = short(&file.path);
        counts.functions.iter().filter(move |function| wanted(function)).map(move |function| (path, function))
    })
}

/// The engine's own files without the folder that all of them share.
fn short(path: &str) -> &str {
    path.strip_prefix(ENGINE).map_or(path, |rest| rest.trim_start_matches('/'))
}
