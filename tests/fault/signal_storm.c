/* A library to preload: a signal to every thread of the process again and again, whose handler does
 * nothing, as a profiler's might. It is installed as such tools do it, with no word of a stack.
 *
 *   LD_PRELOAD=libsignal_storm.so SIGNAL_STORM_US=1000 ptb_dist ...
 *
 * At the end: "signal storm: 1234 handled, 0 on a stack of the program" on standard error. */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int handled, on_own_stack;
static useconds_t pause_us;

static void handle(int signal) {
  (void)signal;
  stack_t stack;
  sigaltstack(NULL, &stack);
  if (!(stack.ss_flags & SS_ONSTACK)) ++on_own_stack;
  ++handled;
}

static void *make_storm(void *unused) {
  const pid_t me = gettid();
  DIR *threads = opendir("/proc/self/task");
  while (threads != NULL) {
    usleep(pause_us);
    rewinddir(threads);
    for (struct dirent *thread; (thread = readdir(threads)) != NULL;) {
      const pid_t id = atoi(thread->d_name);
      if (id > 0 && id != me) syscall(SYS_tgkill, getpid(), id, SIGPROF);
    }
  }
  return unused;
}

__attribute__((constructor)) static void begin(void) {
  const char *pause = getenv("SIGNAL_STORM_US");
  if (pause == NULL) return;
  pause_us = (useconds_t)atoi(pause);
  unsetenv("SIGNAL_STORM_US"); /* MPI starts a daemon, which would hand the signals on */
  struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
  sigaction(SIGPROF, &action, NULL);
  pthread_t thread;
  if (pthread_create(&thread, NULL, make_storm, NULL) == 0) pthread_detach(thread);
}

__attribute__((destructor)) static void tell(void) {
  if (pause_us > 0) {
    fprintf(stderr, "signal storm: %d handled, %d on a stack of the program\n", (int)handled,
            (int)on_own_stack);
  }
}
