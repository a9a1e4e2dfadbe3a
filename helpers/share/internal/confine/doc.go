// Package confine takes from the serving process everything that serving one folder does not need.
//
//	Start  (front process)    a child in a mount namespace of its own, in a user namespace too when not root
//	Enter  (child, one thread) the folder becomes its root directory; limits, Landlock, capabilities
//	Exec   (child)            the same program again, so that all its threads come from the confined one
//	Seal   (serving process)  the system-call filter, on all threads
//
// Landlock and capabilities bind a single thread and what it starts. The Go runtime has several threads before main
// runs, so Enter confines one and Exec starts the program afresh from it. The filter comes last: it forbids exec.
//
// Each means stands for itself. One that this host cannot give is left out and says so: the caller hands the
// measures to the keeper, whose `doctor` shows them. Only what would serve the wrong folder is an error.
//
//	mount namespace  no other path exists: also for stat, chmod, chown, utime and xattrs, which Landlock does not see;
//	                 layer and store are descriptors of mounts that hang nowhere, so no path leads there or out of there
//	landlock         opening and making files beneath the folder, the layer and the store only, reading only for `ro`;
//	                 no TCP, no foreign signals
//	seccomp          the calls that serving makes, none else: no exec, no sockets but the accepted ones, no mounts
//	capabilities     none; as root CAP_DAC_OVERRIDE and CAP_FOWNER, as root expects to reach other users' files
package confine
