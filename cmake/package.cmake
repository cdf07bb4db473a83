# `cpack` makes one archive that runs where there is a driver, the CUDA libraries and glibc: all other
# libraries are inside, found beside ours through $ORIGIN.
set(libraries qft qft_data)
if(TARGET qft_cuda)
  list(APPEND libraries qft_cuda)
endif()
install(TARGETS ${libraries} RUNTIME_DEPENDENCY_SET qft_dependencies LIBRARY DESTINATION lib)
install(TARGETS qft_cli RUNTIME_DEPENDENCY_SET qft_dependencies RUNTIME DESTINATION bin)
set(programs ${QFT_OP_TESTS} model_test offload_test bench_store)
if(TARGET bench_cuda_ops)
  list(APPEND programs bench_cuda_ops)
endif()
if(TARGET qft_kernel_times)
  install(TARGETS qft_kernel_times LIBRARY DESTINATION libexec/qft)
endif()
install(TARGETS ${programs} RUNTIME_DEPENDENCY_SET qft_dependencies
  RUNTIME DESTINATION libexec/qft)
install(RUNTIME_DEPENDENCY_SET qft_dependencies
  PRE_EXCLUDE_REGEXES "^libcu" "^libnv" "^ld-linux" "^lib(c|m|dl|pthread|rt)\\.so"
  POST_EXCLUDE_REGEXES "^${CMAKE_BINARY_DIR}/"
  LIBRARY DESTINATION lib)
install(DIRECTORY include/ DESTINATION include FILES_MATCHING PATTERN "*.h")
install(FILES README.md DESTINATION share/doc/libqft)
install(DIRECTORY docs/ DESTINATION share/doc/libqft)

set(CPACK_GENERATOR TXZ)
set(CPACK_PACKAGE_NAME libqft)
set(CPACK_PACKAGE_VENDOR libqft)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_THREADS 0)
include(CPack)
