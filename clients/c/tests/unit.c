/* All unit tests, in one program with the library itself, so that they see its parts. An argument names those to run. */
#include "test.h"

#include "hash.c"
#include "domain.c"
#include "records.c"
#include "claims.c"
#include "many.c"
#include "processes.c"
#include "tiers.c"
#include "threads.c"

#define TEST(name) {#name, name, false}
#define FORKS(name) {#name, name, true}

/* A child of a process with threads gets a copy of the sanitizer's own locks, held or not: what forks beside a handle runs plainly. */
#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(thread_sanitizer) || HAS_FEATURE(address_sanitizer)
static const bool skip_forks = true;
#else
static const bool skip_forks = false;
#endif

static const struct {
	const char *name;
	void (*run)(void);
	bool forks; /* beside a handle */
} tests[] = {
	TEST(Hash_Vectors_AreMet),
	TEST(Domain_Reopen_KeepsHeaderAndGivesANextGeneration),
	TEST(Domain_WiderModes_AreUnsafe),
	TEST(Domain_DamagedHeader_IsRefusedInOrder),
	FORKS(Domain_ManyOpeners_MakeOneDomain),
	TEST(Domain_Destroyed_IsSeenByOthers),
	FORKS(Domain_KilledHolder_LosesMutexAndRegion),
	TEST(Domain_Mutex_ExcludesThreadsOfTwoHandles),
	TEST(Domain_Mutex_ExcludesProcesses),
	TEST(Domain_ForeignTokenInWord_IsDisowned),
	TEST(Domain_OverwrittenOwner_IsLost),
	TEST(Domain_Segment_LivesUntilNobodyMapsIt),
	TEST(Domain_FullDirectory_IsNoEntry),
	FORKS(Domain_TruncatedSegment_IsAFault),
	FORKS(Domain_Ring_WakesByPollFutexAndSignal),
	FORKS(Domain_ForkedChild_IsRefusedAndReattaches),
	FORKS(Domain_LeaseKeptByAChild_DoesNotKeepTheLock),
	TEST(Domain_Steward_IsOneAndResigns),
	TEST(Domain_OverwrittenIdentity_IsPutRight),
	TEST(Domain_Repair_MendsWhatCheckFinds),
	TEST(Domain_Collect_RemovesDebrisAndKeepsWhatIsUsed),
	TEST(Records_Set_IsFoundUntilDeleted),
	TEST(Records_Lengths_AreKept),
	TEST(Records_Conditions_Hold),
	TEST(Records_Counters_AddAndRefuse),
	TEST(Records_Expiry_EndsAndServesStale),
	TEST(Records_KindsOfKeys_AreDifferent),
	TEST(Records_Batch_AnswersKeyByKey),
	TEST(Records_FullSlab_EvictsOrRefuses),
	TEST(Records_Reader_FindsAndWritesNothing),
	TEST(Records_Destroyed_RefusesFurtherWork),
	TEST(Claim_Miss_IsOnesUntilFilled),
	TEST(Claim_SetAndDelete_EndIt),
	TEST(Claim_Deadline_LetsOthersTakeOver),
	TEST(Claim_Fail_TellsUntil),
	TEST(Claim_FullRefusingSlab_TakesTheExpiredValuesPlace),
	TEST(Load_ManyThreads_ComputeOnce),
	TEST(Load_DeadLoader_IsFollowedAtOnce),
	TEST(Scan_EveryRecord_OnceWithoutIdsAndClaims),
	TEST(Scan_MoreRecordsThanCells_BeginsAgain),
	TEST(Scan_MoveUnderWay_YieldsTheUpperCopyOnly),
	TEST(Evict_Cutoff_TakesTheOldestUpToTheLimit),
	TEST(Evict_Limit_TakesTheOldestFirst),
	TEST(Evict_Tag_TakesAllOfIt),
	TEST(Evict_Near_TakesSoMany),
	TEST(Clear_All_LeavesNothingAndEndsClaims),
	TEST(Clear_NewerRecords_Stay),
	TEST(Namespace_Clear_HidesItsRecordsOnly),
	TEST(Rebuild_Column_KeepsAllRecords),
	TEST(Rebuild_BrokenIndex_IsMade),
	TEST(Processes_Records_AreShared),
	TEST(Processes_DeadOwner_LosesItsLocks),
	FORKS(Fork_Child_IsRefusedUntilReattached),
	FORKS(Fork_TwoHandles_ComeBackEachByItself),
	TEST(Doorbell_Ring_IsHeard),
	TEST(Steward_Lead_IsOnes),
	TEST(Steward_Duties_RemoveTheExpired),
	TEST(Domains_ListAndCollect_SeeWhatIsThere),
	TEST(Tiers_Grow_KeepsVictims),
	TEST(Tiers_SetBelowAndAge_MoveRecords),
	TEST(Slabs_Independent_KeepsItsOwnRecords),
	TEST(Entries_Published_AreListed),
	TEST(Threads_OneHandle_NothingTornNorLost),
};

static void remove_dir(void)
{
	flagstone_destroy(test_dir, "test");
	flagstone_destroy(test_dir, "domain");
	rmdir(test_dir);
}

/* Each test runs in a process of its own, so that one that fails leaves nothing behind. */
static bool run(size_t i)
{
	test_name = tests[i].name;
	strcpy(test_dir, "/dev/shm/flagstone-unit-XXXXXX");
	if (!mkdtemp(test_dir))
		return false;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(120);
		children_begin();
		tests[i].run();
		exit(0);
	}
	int status = -1;
	waitpid(pid, &status, 0);
	remove_dir();
	if (status != 0)
		fprintf(stderr, "FAILED: %s (%s %d)\n", test_name, WIFSIGNALED(status) ? "signal" : "exit code",
		        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return status == 0;
}

int main(int argc, char **argv)
{
	size_t ran = 0, failed = 0, skipped = 0;
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
		if (argc > 1 && !strstr(tests[i].name, argv[1]))
			continue;
		if (tests[i].forks && skip_forks) {
			skipped++;
			continue;
		}
		ran++;
		failed += !run(i);
	}
	printf("%s: %zu tests, %zu failed, %zu skipped that fork beside a handle\n", argv[0], ran, failed, skipped);
	return failed != 0 || ran == 0;
}
