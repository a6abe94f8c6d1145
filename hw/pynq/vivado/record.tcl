# Vivado's commands for tclsh: each call is held against its recorded signature and written to a file.
#
#   tclsh record.tcl SIGNATURES CALLS SCRIPT
#
# SIGNATURES: a line for each command: name, least and most positional arguments, then the options, those with a value
# followed by "=". CALLS: one Tcl list for each call, of the command, its options (a list of pairs) and its positional
# arguments. A command that is neither Tcl's nor recorded ends the script, as does an unknown option.
lassign $argv signature_file call_file script

proc record {name least most options given} {
  global calls
  set named [list]
  set positional [list]
  # -dict of set_property takes the list, and the last positional argument is the object
  for {set i 0} {$i < [llength $given]} {incr i} {
    set word [lindex $given $i]
    if {[dict exists $options $word]} {
      if {[dict get $options $word]} {
        incr i
        if {$i >= [llength $given]} { error "$name: option $word has no value" }
        lappend named [list $word [lindex $given $i]]
      } else {
        lappend named [list $word 1]
      }
    } elseif {[regexp {^-[a-z_]+$} $word]} {
      error "$name has no option $word"
    } else {
      lappend positional $word
    }
  }
  set count [llength $positional]
  if {$count < $least || ($most >= 0 && $count > $most)} {
    error "$name takes $least to $most arguments, not $count: $positional"
  }
  puts $calls [list $name $named $positional]
  return [result_of $name $named $positional]
}

# What Vivado would return, as far as the script goes on with it.
proc result_of {name named positional} {
  global cells work_files
  switch -- $name {
    create_bd_cell { lappend cells [lindex $positional 0]; return [lindex $positional 0] }
    get_bd_cells {
      if {[lindex $positional 0] ni $cells} { error "get_bd_cells: there is no cell [lindex $positional 0]" }
      return [lindex $positional 0]
    }
    get_bd_pins - get_bd_intf_pins - get_bd_addr_spaces - get_bd_addr_segs {
      set path [lindex $positional 0]
      if {[lindex [split $path /] 0] ni $cells} { error "$name: there is no cell for $path" }
      return $path
    }
    get_files - get_runs { return [lindex $positional 0] }
    make_wrapper { return bitproof_wrapper.v }
    ipx::current_core { return core }
    current_project { return project }
    current_fileset { return sources_1 }
    version { return 0.0 }
    get_timing_paths { return path }
    get_property { return [expr {[lindex $positional 0] eq "PROGRESS" ? "100%" : "0.5"}] }
    create_project { file mkdir [lindex $positional 1] }
    generate_target {
      # where 2022.2 and 2023.2 leave the description of the hardware
      set folder [file join [file dirname [file normalize [info script]]] build project bitproof.gen sources_1 bd bitproof hw_handoff]
      file mkdir $folder
      close [open [file join $folder bitproof.hwh] w]
    }
    write_bitstream { close [open [lindex $positional 0] w] }
  }
  return ""
}

namespace eval ipx {}
set cells [list]
set calls [open $call_file w]
fconfigure $calls -encoding utf-8
set file [open $signature_file r]
foreach line [split [string trim [read $file]] "\n"] {
  set options [dict create]
  foreach word [lrange $line 3 end] { dict set options [string trimright $word =] [string match *= $word] }
  proc ::[lindex $line 0] args "record [list [lindex $line 0]] [lindex $line 1] [lindex $line 2] [list $options] \$args"
}
close $file
foreach name {exec socket load} { rename $name {} }
rename open tcl_open
proc open {path args} {
  if {[string match "|*" $path]} { error "open: a script starts no program, and this one names $path" }
  return [tcl_open $path {*}$args]
}
rename interp tcl_interp
proc interp {args} {
  if {[string match "cr*" [lindex $args 0]]} { error "interp: a script starts no program, and another interpreter could" }
  return [uplevel 1 [list tcl_interp {*}$args]]
}
rename exit tcl_exit
if {[catch { source $script } message options]} {
  puts stderr "$script, line [dict get $options -errorline]: $message"
  tcl_exit 1
}
close $calls
