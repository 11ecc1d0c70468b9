<#
.SYNOPSIS
Builds the broker for any platform from any platform; the results are in dist/.
.DESCRIPTION
build.ps1 [TARGET] [MODE]           one target, or all of them
build.ps1 deploy TARGET [MODE]      the same, and the directory to copy to the machine that will run it
TARGET: native (default), linux-x86_64, linux-aarch64, macos-x86_64, macos-aarch64, windows-x86_64, all
MODE: Debug, ReleaseSafe (assertions on; for production), ReleaseFast (default), ReleaseSmall
The same as build.sh, for Windows PowerShell 5.1 and for PowerShell 7 on any system.
#>
Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$root = $PSScriptRoot
Set-Location -LiteralPath $root
if (-not $env:CARGO_TARGET_DIR) { $env:CARGO_TARGET_DIR = Join-Path $root 'target' }
$dist = Join-Path $root 'dist'
$targets = 'linux-x86_64', 'linux-aarch64', 'macos-x86_64', 'macos-aarch64', 'windows-x86_64'
$modes = 'Debug', 'ReleaseSafe', 'ReleaseFast', 'ReleaseSmall'
$onWindows = [IO.Path]::DirectorySeparatorChar -eq '\'
$zigVenv = Join-Path $env:CARGO_TARGET_DIR 'zig'
$zig = Join-Path $zigVenv $(if ($onWindows) { 'Scripts' } else { 'bin' })
$zigInstall = "$(if ($onWindows) { 'python' } else { 'python3' }) -m venv $zigVenv; " +
    "$(Join-Path $zig 'pip') install ziglang==0.15.2 cargo-zigbuild"

function Stop-Build([string] $sentence) {
    [Console]::Error.WriteLine("build.ps1: $sentence")
    exit 1
}

function Show-Usage {
    [Console]::Error.WriteLine("usage: build.ps1 [deploy] [$(@('native') + $targets + @('all') -join '|')] [$($modes -join '|')]")
    exit 2
}

function Test-Tool([string] $name) {
    return [bool] (Get-Command $name -CommandType Application -ErrorAction SilentlyContinue)
}

# The target name of this machine.
function Get-HostTarget {
    $system = 'windows'
    if (-not $onWindows) {
        switch (uname -s) {
            'Linux' { $system = 'linux' }
            'Darwin' { $system = 'macos' }
            default { Stop-Build "this system, $_, is not a known target: name one" }
        }
    }
    $machine = [string] [Runtime.InteropServices.RuntimeInformation]::OSArchitecture
    switch ($machine) {
        'X64' { return "$system-x86_64" }
        'Arm64' { return "$system-aarch64" }
        default { Stop-Build "this processor, $machine, is not a known target: name one" }
    }
}

# Rust's name for a target.
function Get-Triple([string] $target) {
    $system, $machine = $target -split '-', 2
    switch ($system) {
        'linux' { return "$machine-unknown-linux-gnu" }
        'macos' { return "$machine-apple-darwin" }
        'windows' { return "$machine-pc-windows-gnu" }
    }
}

# The name of its program.
function Get-Artefact([string] $target) {
    if ($target -like 'windows-*') { return "mqtt-broker-$target.exe" }
    return "mqtt-broker-$target"
}

# Cargo's name for a mode.
function Get-Profile([string] $mode) {
    switch -CaseSensitive ($mode) {
        'Debug' { return 'dev' }
        'ReleaseSafe' { return 'release-safe' }
        'ReleaseFast' { return 'release' }
        'ReleaseSmall' { return 'release-small' }
        default { Show-Usage }
    }
}

# How to compile for a target: cargo's arguments, the environment it needs, and the command that strips the result.
function Find-Tools([string] $target, [string] $triple, [string] $cargoProfile) {
    $tools = @{ Arguments = @('build'); Environment = @{}; Strip = 'strip' }
    if ($target -eq (Get-HostTarget)) {
        # Without --target, so that the ordinary build directory is used. Microsoft's linker writes symbols to a separate file.
        if ($onWindows) { $tools.Strip = $null }
        return $tools
    }

    $std = @()
    $library = rustc --print target-libdir --target $triple
    if (-not (Test-Path -LiteralPath $library -PathType Container)) {
        $sysroot = ''
        $linked = @()
        if (Test-Tool rustup) { $linked = @(rustup toolchain list) -match '^deb\b' }
        if ($linked) { $sysroot = rustc +deb --print sysroot }
        if (-not $sysroot -or -not (Test-Path -LiteralPath "$sysroot/lib/rustlib/src/rust/library/Cargo.lock")) {
            Stop-Build ("Rust's standard library for $triple is missing: ``rustup target add $triple``, or, on Debian, " +
                "``apt-get install rustc-web cargo-web rust-web-src && rustup toolchain link deb /usr``")
        }
        # Replaces the toolchain of rust-toolchain.toml, and builds the standard library from source.
        $tools.Environment.RUSTUP_TOOLCHAIN = 'deb'
        $tools.Environment.RUSTC_BOOTSTRAP = '1'
        $std = @('-Zbuild-std=std,panic_abort')
    }

    $system = (Get-HostTarget) -replace '-.*', ''
    $command = 'build'
    if ($system -eq 'macos' -and $target -like 'macos-*') {
        # The system's own linker supports both processors.
    } elseif (($system -eq 'linux' -and $target -like 'linux-*') -or $target -like 'windows-*') {
        $installer = 'apt-get'
        switch ($target) {
            'linux-aarch64' { $prefix = 'aarch64-linux-gnu'; $package = 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross' }
            'linux-x86_64' { $prefix = 'x86_64-linux-gnu'; $package = 'gcc-x86-64-linux-gnu libc6-dev-amd64-cross' }
            'windows-x86_64' {
                $prefix = 'x86_64-w64-mingw32'
                $package = 'gcc-mingw-w64-x86-64-posix'
                if ($system -eq 'macos') { $installer = 'brew'; $package = 'mingw-w64' }
            }
        }
        if (-not (Test-Tool "$prefix-gcc")) {
            Stop-Build "the linker for $target, $prefix-gcc, is missing: ``$installer install $package``"
        }
        $tools.Environment["CARGO_TARGET_$($triple.ToUpperInvariant().Replace('-', '_'))_LINKER"] = "$prefix-gcc"
        $tools.Strip = "$prefix-strip"
    } else {
        if (Test-Path -LiteralPath (Join-Path $zig $(if ($onWindows) { 'cargo-zigbuild.exe' } else { 'cargo-zigbuild' }))) {
            $tools.Environment.PATH = $zig + [IO.Path]::PathSeparator + $env:PATH
        } elseif (-not (Test-Tool 'cargo-zigbuild')) {
            Stop-Build "the linker for $target, cargo-zigbuild, is missing: ``$zigInstall``"
        }
        $command = 'zigbuild'
        # Zig strips while linking: stripping later would invalidate the signature that macOS requires.
        $tools.Strip = $null
        if ($cargoProfile -ne 'dev') { $tools.Environment.RUSTFLAGS = "$env:RUSTFLAGS -Clink-arg=-s" }
    }
    $tools.Arguments = @($command) + $std + @('--target', $triple)
    return $tools
}

# Runs cargo with additional environment variables, and ends the build if it fails.
function Invoke-Cargo([hashtable] $environment, [string[]] $arguments) {
    $before = @{}
    foreach ($name in $environment.Keys) {
        $before[$name] = [Environment]::GetEnvironmentVariable($name)
        [Environment]::SetEnvironmentVariable($name, $environment[$name])
    }
    try {
        & cargo @arguments | Out-Host
        $code = $LASTEXITCODE
    } finally {
        foreach ($name in $before.Keys) { [Environment]::SetEnvironmentVariable($name, $before[$name]) }
    }
    if ($code -ne 0) { exit $code }
}

# Copies a program to dist/ under its name, stripped unless it is for a debugger.
function Copy-Artefact([string] $from, [string] $name, [string] $strip) {
    $to = Join-Path $dist $name
    if (Test-Path -LiteralPath $to) { Remove-Item -LiteralPath $to }
    Copy-Item -LiteralPath $from -Destination $to
    if ($strip) {
        & $strip $to
        if ($LASTEXITCODE -ne 0) { Stop-Build "$strip failed on $name" }
    }
    Write-Host "  dist/${name}: $((Get-Item -LiteralPath $to).Length) bytes"
}

function Write-Sums {
    $lines = Get-ChildItem -LiteralPath $dist -File | Where-Object Name -Match '^mqtt-broker-.*-(x86_64|aarch64)(\.exe)?$' | Sort-Object Name | ForEach-Object {
        "$((Get-FileHash -LiteralPath $_.FullName -Algorithm SHA256).Hash.ToLowerInvariant())  $($_.Name)"
    }
    [IO.File]::WriteAllText((Join-Path $dist 'SHA256SUMS'), (($lines -join "`n") + "`n"))
}

# Writes the artefacts of one target to dist/.
function Build-Target([string] $target, [string] $mode) {
    $cargoProfile = Get-Profile $mode
    $triple = Get-Triple $target
    $name = Get-Artefact $target
    $tools = Find-Tools $target $triple $cargoProfile
    Write-Host "$target, $mode"

    $output = $env:CARGO_TARGET_DIR
    if ($target -ne (Get-HostTarget)) { $output = Join-Path $output $triple }
    $output = Join-Path $output $(if ($cargoProfile -eq 'dev') { 'debug' } else { $cargoProfile })
    $output = Join-Path $output $(if ($target -like 'windows-*') { 'mqtt-broker.exe' } else { 'mqtt-broker' })
    $strip = if ($cargoProfile -eq 'dev') { $null } else { $tools.Strip }
    $arguments = $tools.Arguments + @('--locked', '--profile', $cargoProfile, '--bin', 'mqtt-broker')
    if ($target -like 'linux-*') {
        # The allocator is C. On ARM it is built for the largest page of a kernel, which may not be that of this machine.
        if (Test-Tool 'make') { $arguments += @('--features', 'jemalloc') }
        else { Write-Host "  with the system's allocator, because make is missing: it gives little memory back" }
        if ($target -eq 'linux-aarch64') { $tools.Environment.JEMALLOC_SYS_WITH_LG_PAGE = '16' }
    }
    New-Item -ItemType Directory -Force -Path $dist | Out-Null
    Invoke-Cargo $tools.Environment $arguments
    Copy-Artefact $output $name $strip
    Copy-Item -Force -LiteralPath (Join-Path $dist $name) -Destination (Join-Path $dist ($name -replace 'broker', 'broker-async'))
    # Selects the blocking backend as the default, if this version has it.
    if (Select-String -LiteralPath Cargo.toml -Pattern '^sync = ' -Quiet) {
        Invoke-Cargo $tools.Environment ($arguments + @('--features', 'sync'))
        Copy-Artefact $output ($name -replace 'broker', 'broker-sync') $strip
    }
    Write-Sums
}

# Builds every target in a separate process, and prints a table of the results.
function Build-All([string] $mode) {
    $shell = (Get-Process -Id $PID).Path
    $failed = $false
    $rows = foreach ($target in $targets) {
        $name = Get-Artefact $target
        $sync = $name -replace 'broker', 'broker-sync'
        foreach ($program in $name, ($name -replace 'broker', 'broker-async'), $sync) {
            $file = Join-Path $dist $program
            if (Test-Path -LiteralPath $file) { Remove-Item -LiteralPath $file }
        }
        & $shell -NoProfile -File $PSCommandPath $target $mode | Out-Host
        if ($LASTEXITCODE -ne 0) { $failed = $true }
        foreach ($program in $name, $sync) {
            $size, $proved, $good = Test-Artefact $target $program $(if ($program -eq $sync) { 'blocking' } else { '' })
            if (-not $good) { $failed = $true }
            '{0,-35} {1,10}  {2}' -f $program, $size, $proved
        }
    }
    Write-Host ''
    Write-Host ('{0,-35} {1,10}  {2}' -f 'program', 'bytes', 'how far it was tested here')
    $rows | ForEach-Object { Write-Host $_ }
    if ($failed) { exit 1 }
}

# The size of a program in dist/, how far it was tested, and whether the tests possible on this machine passed.
function Test-Artefact([string] $target, [string] $name, [string] $io) {
    $file = Join-Path $dist $name
    if (-not (Test-Path -LiteralPath $file)) { return '-', 'NOT BUILT', $false }
    if (-not $onWindows) {
        $proved = & (Join-Path $root 'tests/platforms/smoke') $target $file $io | Select-Object -Last 1
        $code = $LASTEXITCODE
    } elseif ($target -eq (Get-HostTarget)) {
        # The smoke test is a bash script.
        & $file --version | Out-Host
        $proved = 'ran natively: told its version'
        $code = $LASTEXITCODE
    } else {
        $proved = 'nothing here runs it'
        $code = 77
    }
    $size = (Get-Item -LiteralPath $file).Length
    switch ($code) {
        0 { return $size, "linked; $proved", $true }
        77 { return $size, "linked; not run: $proved", $true }
        default { return $size, 'linked; the smoke test FAILED', $false }
    }
}

# Creates the directory to copy to another machine, with the binary just built.
function New-DeployDirectory([string] $target) {
    $name = Get-Artefact $target
    $system = $target -replace '-.*', ''
    $folder = Join-Path $dist 'mqtt-broker-deploy'
    if (Test-Path -LiteralPath $folder) { Remove-Item -Recurse -Force -LiteralPath $folder }
    foreach ($part in 'config', 'data', 'logs', 'manual') { New-Item -ItemType Directory -Force -Path (Join-Path $folder $part) | Out-Null }
    Copy-Item -LiteralPath (Join-Path $dist $name) -Destination $folder
    Copy-Item -LiteralPath 'deploy/broker.conf' -Destination (Join-Path $folder 'config')
    # The manuals, with the file that they refer to.
    foreach ($file in 'README.md', 'README.zh-CN.md', 'broker.conf') {
        Copy-Item -LiteralPath "deploy/$file" -Destination (Join-Path $folder 'manual')
    }
    $files = switch ($system) {
        'linux' { 'systemd/mqtt-broker.service', 'sysctl/90-mqtt-broker.conf', 'limits/mqtt-broker.conf' }
        'macos' { 'launchd/org.mqtt-broker.plist' }
        'windows' { 'windows/mqtt-broker-service.xml' }
    }
    # The installed program is called mqtt-broker; in this directory its name contains the platform.
    foreach ($file in $files) {
        $text = [IO.File]::ReadAllText((Join-Path $root "deploy/$file"))
        $text = $text -replace '(?m)(/opt/mqtt-broker/|\.\.\\)mqtt-broker(\.exe)?(<|\r?$)', ('$1' + $name + '$3')
        New-Item -ItemType Directory -Force -Path (Join-Path $folder (Split-Path $file)) | Out-Null
        [IO.File]::WriteAllText((Join-Path $folder $file), $text)
    }
    $readme = [IO.File]::ReadAllText((Join-Path $root "deploy/directory/$system.md")).Replace('@BINARY@', $name)
    [IO.File]::WriteAllText((Join-Path $folder 'README.md'), $readme)
    Write-Host "  dist/mqtt-broker-deploy/: $name with configuration, manuals and service files; its README.md has the next steps"
}

if (-not (Test-Tool cargo)) { Stop-Build 'cargo is missing: install Rust by rustup (https://rustup.rs)' }
$words = @($args)
$deploy = $words.Count -gt 0 -and $words[0] -ceq 'deploy'
if ($deploy) {
    $words = @($words | Select-Object -Skip 1)
    if ($words.Count -lt 1) { Show-Usage }
}
if ($words.Count -gt 2) { Show-Usage }
$target = if ($words.Count -gt 0) { $words[0] } else { 'native' }
$mode = if ($words.Count -gt 1) { $words[1] } else { 'ReleaseFast' }
Get-Profile $mode | Out-Null
if ($target -ceq 'native') { $target = Get-HostTarget }

if ($target -ceq 'all') {
    if ($deploy) { Show-Usage }
    Build-All $mode
} else {
    if ($targets -cnotcontains $target) { Show-Usage }
    Build-Target $target $mode
    if ($deploy) { New-DeployDirectory $target }
}
