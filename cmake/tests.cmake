# The suites, and the ways in which other projects take us up. ctest -L unit and -L package run one kind.
find_package(doctest REQUIRED)
find_package(rapidcheck REQUIRED)
file(GLOB sources CONFIGURE_DEPENDS tests/*.cpp tests/golden/*.cpp tests/onnx/*.cpp tests/zoo/*.cpp)
add_executable(surgeon_tests ${sources})
surgeon_flags(surgeon_tests)
# What is tested is optimised; compiling the tests as hard would take longer than running them saves.
# Under sanitizers it would take most of an hour.
target_compile_options(surgeon_tests PRIVATE $<$<CONFIG:Release>:-O1> $<$<CONFIG:RelWithDebInfo>:-O0>)
set_property(SOURCE tests/folder.cpp PROPERTY COMPILE_DEFINITIONS SURGEON_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
target_include_directories(surgeon_tests PRIVATE ${SURGEON_BLAS_INCLUDE_DIR})
target_link_libraries(surgeon_tests PRIVATE surgeon_experiments doctest::doctest rapidcheck
                      nlohmann_json::nlohmann_json xtensor ${SURGEON_BLAS})

set(patience 600)   # seconds
set(memory "")
if(CMAKE_CXX_FLAGS MATCHES -fsanitize)
  set(patience 3600)
  set(memory no-limits)   # sanitizers map more than any limit leaves
endif()

# ---- One entry for each file: ctest -R gradients runs tests/test_gradients.cpp ---------------------------------------
file(GLOB suites CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/tests tests/test_*.cpp)
foreach(suite ${suites})
  string(REGEX REPLACE "^test_(.*)\\.cpp$" "\\1" name ${suite})
  add_test(NAME ${name} COMMAND surgeon_tests --source-file=*/${suite} --no-intro WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${patience} LABELS unit)
endforeach()
# Nothing may recurse over a graph: the deep ones again, with a stack of 1 MiB for the whole program.
add_test(NAME graph_sizes_small_stack COMMAND sh -c "ulimit -s 1024 && exec \"$0\" \"$@\"" $<TARGET_FILE:surgeon_tests>
         --source-file=*/test_graph_sizes.cpp --no-intro WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
set_tests_properties(graph_sizes_small_stack PROPERTIES LABELS unit)

# ---- What must not compile, and what the compiler says then ---------------------------------------------------------
add_test(NAME scale_of_one COMMAND ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only -I${PROJECT_SOURCE_DIR}
         ${PROJECT_SOURCE_DIR}/tests/consumer/scale_of_one.cpp)
set_tests_properties(scale_of_one PROPERTIES LABELS package PASS_REGULAR_EXPRESSION "write .scale = true for 1/sqrt")

# ---- The program from outside ----------------------------------------------------------------------------------------
add_test(NAME command COMMAND ${PROJECT_SOURCE_DIR}/tests/command.sh $<TARGET_FILE:surgeon> ${memory})
add_test(NAME git_hash COMMAND ${PROJECT_SOURCE_DIR}/tests/git_hash.sh ${PROJECT_SOURCE_DIR}/cmake/git_hash.cmake)
set_tests_properties(command git_hash PROPERTIES TIMEOUT ${patience} LABELS unit SKIP_RETURN_CODE 77)

# ---- The C interface from Python, with NumPy, and PyTorch when it is there -------------------------------------------
find_program(SURGEON_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
mark_as_advanced(SURGEON_PYTHON)
# ThreadSanitizer must be in the program from its start, and Python is not built with it. The other one may come along;
# it is not asked for leaks, since Python keeps what it allocates.
if(TARGET surgeon_shared AND SURGEON_PYTHON AND NOT CMAKE_CXX_FLAGS MATCHES -fsanitize=thread)
  set(python_environment SURGEON_LIBRARY=$<TARGET_FILE:surgeon_shared>)
  if(CMAKE_CXX_FLAGS MATCHES -fsanitize=address)
    foreach(library libasan.so libstdc++.so)   # the second, so that the first finds what throws
      execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${library} OUTPUT_VARIABLE ${library}
                      OUTPUT_STRIP_TRAILING_WHITESPACE)
    endforeach()
    list(APPEND python_environment LD_PRELOAD=${libasan.so}:${libstdc++.so} ASAN_OPTIONS=detect_leaks=0)
  endif()
  add_test(NAME python COMMAND ${SURGEON_PYTHON} -B ${PROJECT_SOURCE_DIR}/tests/c_interface.py)
  set_tests_properties(python PROPERTIES LABELS unit SKIP_RETURN_CODE 77 TIMEOUT 300
                       ENVIRONMENT "${python_environment}")
endif()

# ---- Installed, then used by projects that know nothing else ---------------------------------------------------------
set(prefix ${PROJECT_BINARY_DIR}/consumer/prefix)
find_program(CCACHE ccache)
mark_as_advanced(CCACHE)
if(NOT CMAKE_CXX_COMPILER_LAUNCHER AND CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})   # from here on: for the consumers alone
endif()
set(same_compiler -DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE} -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}
    -DCMAKE_CXX_FLAGS=${CMAKE_CXX_FLAGS} -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER})
function(surgeon_consumer name folder)   # and what its CMake is told
  add_test(NAME ${name} COMMAND ${CMAKE_CTEST_COMMAND}
           --build-and-test ${PROJECT_SOURCE_DIR}/tests/consumer/${folder} ${PROJECT_BINARY_DIR}/consumer/${name}
           --build-generator ${CMAKE_GENERATOR} --build-noclean --build-options ${same_compiler} ${ARGN} --test-command ${name})
  set_tests_properties(${name} PROPERTIES LABELS package)
endfunction()
if(SURGEON_INSTALL)
  add_test(NAME install COMMAND ${CMAKE_COMMAND} --install ${PROJECT_BINARY_DIR} --prefix ${prefix})
  surgeon_consumer(consumer . -DCMAKE_PREFIX_PATH=${prefix})
  surgeon_consumer(consumer_lab lab -DCMAKE_PREFIX_PATH=${prefix})
  add_test(NAME installed_command COMMAND ${prefix}/${CMAKE_INSTALL_BINDIR}/surgeon --version)
  separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_FLAGS}")
  add_test(NAME consumer_pkg_config COMMAND ${PROJECT_SOURCE_DIR}/tests/consumer/pkg_config.sh
           ${prefix}/${CMAKE_INSTALL_LIBDIR}/pkgconfig ${PROJECT_BINARY_DIR}/consumer/pkg_config
           ${CMAKE_CXX_COMPILER} ${flags})
  set_tests_properties(install PROPERTIES FIXTURES_SETUP installed LABELS package)
  set_tests_properties(consumer consumer_lab consumer_pkg_config installed_command PROPERTIES
                       FIXTURES_REQUIRED installed LABELS package)
  set_tests_properties(consumer_pkg_config PROPERTIES SKIP_RETURN_CODE 77)
endif()
# Brought in by FetchContent. It compiles both libraries anew, without optimisation: a minute, the first time.
surgeon_consumer(consumer_fetch fetch -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0)
set_tests_properties(consumer_fetch PROPERTIES TIMEOUT 1800 LABELS "package;slow")

if(SURGEON_COVERAGE)
  add_custom_target(coverage VERBATIM COMMAND gcovr --root ${PROJECT_SOURCE_DIR} --filter ${PROJECT_SOURCE_DIR}/framework/
                    --object-directory ${PROJECT_BINARY_DIR} --print-summary --delete ${PROJECT_BINARY_DIR})
endif()
