//! One test for each scenario and driver: `uring::handshakes::…`, `epoll::handshakes::…` and so on. A scenario is a function that takes
//! the driver.

/// `scenarios! { [uring: Uring, epoll: Epoll] MODULE { NAME, … } … }`: the drivers by their modules and by their names in
/// [`crate::harness::broker::Io`], and then the scenarios.
macro_rules! scenarios {
    ([$($driver:ident: $io:ident),+] $($module:ident { $($name:ident,)+ })+) => {
        scenarios!(@each [$($driver: $io),+] { $($module { $($name,)+ })+ });
    };
    (@each [$($driver:ident: $io:ident),+] $modules:tt) => {
        $(scenarios!(@on $driver, $io, $modules);)+
    };
    (@on $driver:ident, $io:ident, { $($module:ident { $($name:ident,)+ })+ }) => {
        mod $driver {
            $(mod $module { $(
                #[test]
                fn $name() {
                    crate::$module::$name(crate::harness::broker::Io::$io);
                }
            )+ })+
        }
    };
}
